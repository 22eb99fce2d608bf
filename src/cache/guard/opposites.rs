//! Words that never stand for one another: opposites, and members of a kind.
//!
//! Only tables. English, and what support and chat traffic is about; a pair that is missing is not seen.
//!
//! Invariants: all words are lower case; no word stands on both sides of a pair, or twice in a kind.

/// Words that turn a request round when one takes the place of the other.
pub(super) const OPPOSITES: &[(&[&str], &[&str])] = &[
    (&["on"], &["off"]),
    (&["in"], &["out"]),
    (&["up"], &["down"]),
    (&["before", "prior"], &["after", "following"]),
    (&["with"], &["without"]),
    (&["enable", "activate", "start", "begin"], &["disable", "deactivate", "stop", "end"]),
    (&["open"], &["close", "shut"]),
    (&["add", "create", "register", "install"], &["remove", "delete", "erase", "uninstall"]),
    (&["increase", "raise", "grow", "gain"], &["decrease", "reduce", "lower", "lose"]),
    (
        &["more", "most", "maximum", "max", "highest", "greater"],
        &["less", "least", "minimum", "min", "lowest", "fewer"],
    ),
    (&["above", "over"], &["below", "under"]),
    (&["left"], &["right"]),
    (&["first", "earliest"], &["last", "latest", "final"]),
    (&["next", "upcoming"], &["previous", "past", "last"]),
    (&["buy", "purchase"], &["sell"]),
    (&["send"], &["receive"]),
    (&["deposit"], &["withdraw", "withdrawal"]),
    (&["borrow"], &["lend"]),
    (&["accept", "approve", "allow", "permit"], &["reject", "decline", "deny", "refuse", "block", "forbid"]),
    (&["upload"], &["download"]),
    (&["import"], &["export"]),
    (&["upgrade"], &["downgrade"]),
    (&["encrypt"], &["decrypt"]),
    (&["encode"], &["decode"]),
    (&["compress"], &["decompress", "extract"]),
    (&["login", "signin"], &["logout", "signout"]),
    (&["push"], &["pull"]),
    (&["show", "display"], &["hide"]),
    (&["input"], &["output"]),
    (&["inside", "indoor"], &["outside", "outdoor"]),
    (&["arrive", "arrival"], &["depart", "departure", "leave"]),
    (&["early", "earlier"], &["late", "later"]),
    (&["old", "older", "oldest"], &["new", "newer", "newest", "young"]),
    (&["best", "better", "good"], &["worst", "worse", "bad"]),
    (&["cheap", "cheapest"], &["expensive", "dear"]),
    (&["high", "higher"], &["low", "lower"]),
    (&["long", "longer", "longest"], &["short", "shorter", "shortest"]),
    (&["big", "bigger", "large", "larger", "largest"], &["small", "smaller", "smallest"]),
    (&["fast", "faster", "quick"], &["slow", "slower"]),
    (&["hot", "warm"], &["cold", "cool"]),
    (&["always"], &["never"]),
    (&["all", "every"], &["none"]),
    (&["true"], &["false"]),
    (&["yes"], &["no"]),
    (&["legal", "lawful"], &["illegal", "unlawful"]),
    (&["possible"], &["impossible"]),
    (&["positive"], &["negative"]),
    (&["advantage", "pro", "benefit"], &["disadvantage", "con", "drawback", "risk"]),
    (&["cause"], &["effect"]),
    (&["win"], &["lose"]),
    (&["male", "man", "men", "boy"], &["female", "woman", "women", "girl"]),
    (&["he", "him", "his"], &["she", "her"]),
    (&["import"], &["export"]),
    (&["incoming", "inbound"], &["outgoing", "outbound"]),
    (&["public"], &["private"]),
    (&["internal"], &["external"]),
    (&["freeze"], &["unfreeze", "thaw"]),
    (&["debit"], &["credit"]),
    (&["checking"], &["savings", "saving"]),
    (&["personal"], &["business"]),
    (&["billing"], &["shipping", "delivery"]),
];

/// Before a word they turn it round.
pub(super) const REVERSING: &[&str] = &["un", "dis", "de", "non", "in", "im", "ir", "mis", "re"];

/// Words of one kind: one never stands for another.
pub(super) const KINDS: &[&[&str]] = &[
    &["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
    &[
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ],
    &["today", "tomorrow", "yesterday", "tonight"],
    &["morning", "noon", "afternoon", "evening", "night", "midnight"],
    &["daily", "weekly", "monthly", "yearly", "annual"],
    &["spring", "summer", "autumn", "winter"],
    &["north", "south", "east", "west"],
    &[
        "red", "blue", "green", "yellow", "black", "white", "orange", "purple", "pink", "brown", "grey",
        "gray",
    ],
    &[
        "free",
        "basic",
        "standard",
        "premium",
        "pro",
        "bronze",
        "silver",
        "gold",
        "platinum",
        "diamond",
        "enterprise",
    ],
    &["visa", "mastercard", "amex", "paypal", "maestro", "discover", "bitcoin", "cash"],
    &["breakfast", "lunch", "dinner", "supper"],
    &[
        "mother",
        "father",
        "brother",
        "sister",
        "son",
        "daughter",
        "aunt",
        "uncle",
        "grandmother",
        "grandfather",
    ],
    &["wife", "husband", "girlfriend", "boyfriend"],
    &[
        "python",
        "java",
        "javascript",
        "typescript",
        "rust",
        "ruby",
        "php",
        "kotlin",
        "swift",
        "golang",
        "scala",
        "perl",
        "haskell",
    ],
    &["windows", "linux", "macos", "mac", "ubuntu", "debian", "android", "iphone", "ios"],
    &["aws", "azure", "gcp"],
    &["chrome", "firefox", "safari", "edge"],
    &[
        "facebook",
        "instagram",
        "twitter",
        "whatsapp",
        "snapchat",
        "youtube",
        "quora",
        "reddit",
        "google",
        "linkedin",
    ],
    &["json", "xml", "yaml", "csv", "pdf", "html", "docx", "excel", "word"],
    &["mysql", "postgres", "postgresql", "sqlite", "mongodb", "redis", "oracle"],
    &[
        "english",
        "french",
        "german",
        "spanish",
        "italian",
        "portuguese",
        "russian",
        "chinese",
        "japanese",
        "korean",
        "arabic",
        "hindi",
        "dutch",
        "polish",
        "turkish",
    ],
    &[
        "china",
        "india",
        "usa",
        "america",
        "canada",
        "mexico",
        "brazil",
        "germany",
        "france",
        "spain",
        "italy",
        "russia",
        "japan",
        "korea",
        "australia",
        "pakistan",
        "england",
        "britain",
        "uk",
    ],
    &["trump", "clinton", "obama", "biden"],
    &["dog", "cat", "bird", "fish", "horse", "cow", "pig"],
    &["square", "circle", "triangle", "rectangle"],
    &["sum", "difference", "product", "quotient", "average", "median", "mean"],
    &["phone", "email", "address", "name", "password", "username", "pin"],
    &["car", "bus", "train", "plane", "bike", "taxi", "boat", "ship"],
    &["breakfast", "lunch", "dinner"],
    &["physics", "chemistry", "biology", "mathematics", "math", "history", "geography"],
    &["teacher", "student", "doctor", "nurse", "lawyer", "engineer"],
];

#[cfg(test)]
mod tests {
    use super::super::words::stem;
    use super::*;

    #[test]
    fn no_word_is_its_own_opposite() {
        for (pole, opposite) in OPPOSITES {
            let shared = pole.iter().any(|a| opposite.iter().any(|b| stem(a) == stem(b)));
            assert!(!shared, "{pole:?} and {opposite:?}");
        }
    }

    #[test]
    fn members_of_a_kind_have_stems_of_their_own() {
        for members in KINDS {
            for (idx, a) in members.iter().enumerate() {
                assert!(members[idx + 1..].iter().all(|b| stem(a) != stem(b)), "{a} in {members:?}");
            }
        }
    }
}
