// What pages do beyond being read: the theme, filters that apply themselves, and values under the pointer.
// Pages work without it. It sets no style by text, and puts nothing into a page but as text.
"use strict";
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const theme = stored();
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  function themes() {
    const button = document.querySelector("button.theme");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* Private windows may forbid it. */ }
    });
  }

  function forms() {
    for (const form of document.querySelectorAll("form[data-submit=change]")) {
      form.classList.add("by-itself");
      form.addEventListener("change", () => form.requestSubmit());
    }
    // Fields without a value would only make the address longer.
    for (const form of document.querySelectorAll("form[method=get]")) {
      form.addEventListener("submit", () => {
        for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
      });
    }
    // On a phone the navigation is a row that scrolls.
    document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    document.addEventListener("click", (event) => {
      for (const open of document.querySelectorAll("details.custom[open]")) if (!open.contains(event.target)) open.open = false;
    });
  }

  let tip;
  function hide() {
    tip.hidden = true;
    for (const cursor of document.querySelectorAll("rect.cursor")) cursor.setAttribute("width", "0");
  }

  // A column's values, the greatest first, as the table behind the chart has them.
  function show(figure, idx, x, y) {
    const row = figure.querySelectorAll(".behind tbody tr")[idx];
    if (!row) return hide();
    const heads = [...figure.querySelectorAll(".behind thead th")].slice(1);
    const values = [...row.querySelectorAll("td")].map((cell, at) => ({
      name: heads[at].textContent, tone: heads[at].dataset.tone, shown: cell.textContent, size: Number(cell.dataset.v ?? NaN),
    }));
    const isTotal = (value) => value.tone === "total";
    const listed = values.filter((value) => !isTotal(value) && value.size !== 0 && !Number.isNaN(value.size)).sort((a, b) => b.size - a.size);
    tip.replaceChildren(element("p", "at", row.querySelector("th").textContent));
    const list = element("ul");
    for (const value of listed.concat(values.filter(isTotal))) {
      const item = element("li", isTotal(value) ? "total" : "");
      item.append(element("span", "swatch " + value.tone), element("span", "name", value.name), element("span", "n", value.shown));
      list.append(item);
    }
    tip.append(listed.length ? list : element("p", "none", "nothing"));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth - 8 ? x - 16 - box.width : x + 16;
    tip.style.left = Math.max(8, left) + scrollX + "px";
    tip.style.top = Math.max(8, Math.min(y - box.height / 2, innerHeight - box.height - 8)) + scrollY + "px";
    const plot = figure.querySelector("svg.plot");
    const width = 1000 / Number(plot.dataset.columns);
    const cursor = plot.querySelector("rect.cursor");
    cursor.setAttribute("x", String(idx * width));
    cursor.setAttribute("width", String(width));
  }

  function charts() {
    tip = element("div", "tip");
    tip.setAttribute("role", "status");
    tip.hidden = true;
    document.body.append(tip);
    for (const plot of document.querySelectorAll("svg.plot")) {
      // Browsers would show the title under the pointer, over the values.
      const title = plot.querySelector("title");
      plot.setAttribute("aria-label", title.textContent);
      plot.setAttribute("aria-describedby", plot.querySelector("desc").id);
      plot.removeAttribute("aria-labelledby");
      title.remove();
      if (!plot.dataset.columns) continue;
      const figure = plot.closest("figure");
      const count = Number(plot.dataset.columns);
      let at = -1;
      const place = (idx, y) => {
        const box = plot.getBoundingClientRect();
        show(figure, idx, box.left + (idx + 0.5) / count * box.width, y ?? box.top + box.height / 2);
      };
      plot.addEventListener("pointermove", (event) => {
        const box = plot.getBoundingClientRect();
        at = Math.min(count - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * count)));
        place(at, event.clientY);
      });
      plot.addEventListener("pointerleave", hide);
      const frame = plot.closest(".frame");
      frame.addEventListener("keydown", (event) => {
        const last = count - 1;
        const next = { ArrowRight: Math.min(last, at + 1), ArrowLeft: at < 0 ? last : Math.max(0, at - 1), Home: 0, End: last }[event.key];
        if (event.key === "Escape") return hide();
        if (next === undefined) return;
        event.preventDefault();
        at = next;
        place(at);
      });
      frame.addEventListener("blur", hide);
    }
    addEventListener("scroll", hide, { passive: true });
  }

  document.addEventListener("DOMContentLoaded", () => { themes(); forms(); charts(); });
})();
