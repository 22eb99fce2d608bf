//! The rules of the pages that only their sources can break.

const SOURCES: [(&str, &str); 17] = [
    ("burn", include_str!("burn.rs")),
    ("cache", include_str!("cache.rs")),
    ("call", include_str!("call.rs")),
    ("calls", include_str!("calls.rs")),
    ("chart", include_str!("chart.rs")),
    ("health", include_str!("health.rs")),
    ("overview", include_str!("overview.rs")),
    ("parts", include_str!("parts.rs")),
    ("range", include_str!("range.rs")),
    ("routes", include_str!("routes.rs")),
    ("series", include_str!("series.rs")),
    ("shell", include_str!("shell.rs")),
    ("sign_in", include_str!("sign_in.rs")),
    ("splits", include_str!("splits.rs")),
    ("teams", include_str!("teams.rs")),
    ("text", include_str!("text.rs")),
    ("door", include_str!("door.rs")),
];

#[test]
fn no_page_asks_the_ledger_but_through_the_book() {
    for (name, source) in SOURCES {
        for part in [".reports()", "Reports", "SpendAsk", "CallsAsk", "LatencyAsk", "Filter {"] {
            assert!(!source.contains(part), "{name} names `{part}`, which is for the book");
        }
    }
}

#[test]
fn nothing_is_written_into_a_page_unescaped() {
    for (name, source) in SOURCES {
        let n_raw = source.matches("PreEscaped(").count();
        // The one is the icon, a constant of ours.
        assert_eq!(n_raw, usize::from(name == "shell"), "{name}");
        for part in ["style=\"", "onclick", "onload", "javascript:"] {
            let is_test = source.split("#[cfg(test)]").next().is_some_and(|code| !code.contains(part));
            assert!(is_test, "{name} has `{part}`, which the policy forbids");
        }
    }
}

#[test]
fn the_script_puts_nothing_into_a_page_but_as_text() {
    let script = include_str!("app.js");

    for part in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "setAttribute(\"style"]
    {
        assert!(!script.contains(part), "{part}");
    }
}
