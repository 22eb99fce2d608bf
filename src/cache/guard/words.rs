//! The words the guard knows: opposites, kinds, units, numbers, negations.
//!
//! Only tables and the plainest of grammar; no decisions.
//!
//! Invariants: all words are lower case; no word stands on both sides of a pair of opposites.

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
    (&["send", "give"], &["receive", "get"]),
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

/// Spellings of a unit, and its one name.
const UNITS: &[(&str, &[&str])] = &[
    ("dollar", &["$", "usd", "dollar", "dollars", "bucks"]),
    ("euro", &["€", "eur", "euro", "euros"]),
    ("pound-sterling", &["£", "gbp", "quid"]),
    ("yen", &["¥", "jpy", "yen"]),
    ("rupee", &["₹", "inr", "rupee", "rupees"]),
    ("percent", &["%", "percent"]),
    ("degree", &["°", "degree", "degrees"]),
    ("celsius", &["celsius", "°c"]),
    ("fahrenheit", &["fahrenheit", "°f"]),
    ("kelvin", &["kelvin"]),
    ("mm", &["mm", "millimetre", "millimetres", "millimeter", "millimeters"]),
    ("cm", &["cm", "centimetre", "centimetres", "centimeter", "centimeters"]),
    ("m", &["m", "metre", "metres", "meter", "meters"]),
    ("km", &["km", "kilometre", "kilometres", "kilometer", "kilometers", "kms"]),
    ("inch", &["inch", "inches"]),
    ("ft", &["ft", "foot", "feet"]),
    ("yard", &["yd", "yard", "yards"]),
    ("mile", &["mi", "mile", "miles"]),
    ("mph", &["mph"]),
    ("kmh", &["kmh", "kph"]),
    ("mg", &["mg", "milligram", "milligrams"]),
    ("g", &["g", "gram", "grams"]),
    ("kg", &["kg", "kgs", "kilo", "kilos", "kilogram", "kilograms"]),
    ("oz", &["oz", "ounce", "ounces"]),
    ("lb", &["lb", "lbs", "pound", "pounds"]),
    ("ton", &["ton", "tons", "tonne", "tonnes"]),
    ("ml", &["ml", "millilitre", "millilitres", "milliliter", "milliliters"]),
    ("l", &["litre", "litres", "liter", "liters"]),
    ("gallon", &["gallon", "gallons"]),
    ("cup", &["cup", "cups"]),
    ("tsp", &["tsp", "teaspoon", "teaspoons"]),
    ("tbsp", &["tbsp", "tablespoon", "tablespoons"]),
    ("ms", &["ms", "millisecond", "milliseconds"]),
    ("s", &["sec", "secs", "seconds"]),
    ("min", &["mins", "minute", "minutes"]),
    ("h", &["hr", "hrs", "hour", "hours", "h"]),
    ("day", &["day", "days"]),
    ("week", &["week", "weeks"]),
    ("month", &["month", "months"]),
    ("year", &["year", "years", "yrs"]),
    ("decade", &["decade", "decades"]),
    ("century", &["century", "centuries"]),
    ("am", &["am", "a.m"]),
    ("pm", &["pm", "p.m"]),
    ("kb", &["kb", "kilobyte", "kilobytes"]),
    ("mb", &["mb", "megabyte", "megabytes"]),
    ("gb", &["gb", "gigabyte", "gigabytes"]),
    ("tb", &["tb", "terabyte", "terabytes"]),
    ("watt", &["watt", "watts"]),
    ("volt", &["volt", "volts"]),
    ("k", &["k", "thousand"]),
    ("million", &["million", "millions", "mio"]),
    ("billion", &["billion", "billions", "bn"]),
];

/// Units whose spelling is a common word or letter and count only beside digits.
const ONLY_BESIDE_DIGITS: &[&str] = &["m", "g", "h", "k", "am", "ms", "mi", "cup", "cups", "foot"];

const NUMBERS: &[(&str, &str)] = &[
    ("zero", "0"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("thirteen", "13"),
    ("fourteen", "14"),
    ("fifteen", "15"),
    ("sixteen", "16"),
    ("seventeen", "17"),
    ("eighteen", "18"),
    ("nineteen", "19"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("forty", "40"),
    ("fifty", "50"),
    ("sixty", "60"),
    ("seventy", "70"),
    ("eighty", "80"),
    ("ninety", "90"),
    ("hundred", "100"),
    ("twice", "2x"),
    ("half", "1/2"),
    ("quarter", "1/4"),
];

/// In the languages most often met.
const NEGATIONS: &[&str] = &[
    "not", "no", "never", "none", "nothing", "nobody", "neither", "nor", "without", "except", "nicht",
    "kein", "keine", "ohne", "jamais", "sans", "nunca", "sin", "nao", "não", "non",
];

/// Said of the speaker, not of what is asked.
const NOT_ASKED: &[&[&str]] = &[
    &["do", "not", "know"],
    &["not", "sure"],
    &["no", "idea"],
    &["do", "not", "understand"],
    &["do", "not", "remember"],
    &["can", "not", "remember"],
    &["or", "not"],
    &["why", "not"],
];

const APOSTROPHE_LESS: &[(&str, &str)] = &[
    ("dont", "do"),
    ("doesnt", "does"),
    ("didnt", "did"),
    ("cant", "can"),
    ("cannot", "can"),
    ("wont", "will"),
    ("isnt", "is"),
    ("arent", "are"),
    ("wasnt", "was"),
    ("werent", "were"),
    ("couldnt", "could"),
    ("shouldnt", "should"),
    ("wouldnt", "would"),
    ("havent", "have"),
    ("hasnt", "has"),
    ("hadnt", "had"),
    ("mustnt", "must"),
    ("neednt", "need"),
];

/// Words that carry grammar rather than matter.
const GRAMMAR: &[&str] = &[
    "a", "an", "the", "i", "me", "my", "mine", "you", "your", "we", "us", "our", "it", "its", "he", "him",
    "his", "she", "her", "they", "them", "their", "this", "that", "these", "those", "there", "here", "is",
    "are", "was", "were", "be", "been", "being", "am", "do", "does", "did", "done", "have", "has", "had",
    "having", "can", "could", "will", "would", "shall", "should", "may", "might", "must", "need", "want",
    "please", "what", "which", "who", "whom", "whose", "when", "where", "why", "how", "and", "or", "but",
    "if", "then", "so", "as", "at", "by", "for", "from", "in", "into", "of", "off", "on", "onto", "out",
    "over", "to", "up", "with", "about", "than", "not", "no", "some", "any", "just", "also", "too", "very",
    "get", "got", "let", "help", "know", "tell", "like", "im", "ok", "hi", "hello", "thanks", "one", "vs",
    "versus", "between",
];

/// Between two words they do not care which comes first.
const SYMMETRIC: &[&str] =
    &["and", "or", "vs", "versus", "with", "a", "an", "the", "i", "my", "you", "it", "is", "are"];

const ENDINGS: &[&str] = &["ations", "ation", "ings", "ing", "ies", "ied", "ers", "ed", "es", "s", "e"];

pub(super) fn is_unit_sign(c: char) -> bool {
    matches!(c, '$' | '€' | '£' | '¥' | '₹' | '%' | '°')
}

/// The one name of a unit written beside a number or alone.
pub(super) fn unit(text: &str) -> Option<&'static str> {
    UNITS.iter().find(|(_, spellings)| spellings.contains(&text)).map(|(name, _)| *name)
}

/// Like [`unit`], for a word that follows no number.
pub(super) fn unit_word(word: &str) -> Option<&'static str> {
    if ONLY_BESIDE_DIGITS.contains(&word) { None } else { unit(word) }
}

pub(super) fn number(word: &str) -> Option<&'static str> {
    NUMBERS.iter().find(|(name, _)| *name == word).map(|(_, digits)| *digits)
}

/// What kind of thing is asked for; "how" and "what" take too many shapes to tell.
pub(super) fn asked(word: &str) -> Option<&'static str> {
    ["who", "when", "where", "why"].into_iter().find(|asked| *asked == word)
}

pub(super) fn is_content(word: &str) -> bool {
    !GRAMMAR.contains(&word)
}

pub(super) fn is_symmetric(word: &str) -> bool {
    SYMMETRIC.contains(&word)
}

/// A word without its apostrophe: "can't" is "can" and "not".
pub(super) fn written_out(word: &str) -> Vec<&str> {
    if let Some((_, verb)) = APOSTROPHE_LESS.iter().find(|(written, _)| *written == word) {
        return vec![verb, "not"];
    }
    match word {
        "can't" => return vec!["can", "not"],
        "won't" => return vec!["will", "not"],
        "shan't" => return vec!["shall", "not"],
        _ => {}
    }
    if let Some(verb) = word.strip_suffix("n't") {
        return vec![verb, "not"];
    }
    let bare = word.trim_matches('\'');
    vec![bare.split_once('\'').map_or(bare, |(front, _)| front)]
}

/// How often the text says no, but for phrases that speak of the speaker.
pub(super) fn n_negations(words: &[String]) -> usize {
    let said = words.iter().filter(|word| NEGATIONS.contains(&word.as_str())).count();
    let excused: usize = NOT_ASKED
        .iter()
        .map(|phrase| words.windows(phrase.len()).filter(|window| window.iter().eq(phrase.iter())).count())
        .sum();
    said.saturating_sub(excused)
}

/// A word without its ending, so that forms of one word are equal. Rough: it is only ever compared
/// with other stems.
pub(super) fn stem(word: &str) -> String {
    if !word.is_ascii() || word.len() < 4 {
        return word.to_owned();
    }
    let mut stem = word;
    for ending in ENDINGS {
        if let Some(front) = stem.strip_suffix(ending).filter(|front| front.len() >= 3) {
            stem = front;
            break;
        }
    }
    let bytes = stem.as_bytes();
    let last_two = bytes.len().checked_sub(2).map(|start| &bytes[start..]);
    let is_doubled = last_two.is_some_and(|pair| pair[0] == pair[1] && !b"ls".contains(&pair[0]));
    let stem = if is_doubled && stem.len() > 3 { &stem[..stem.len() - 1] } else { stem };
    stem.trim_end_matches(['e', 'y', 'i']).to_owned()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn forms_of_a_word_share_a_stem() {
        for forms in [
            &["subscribe", "subscribing", "subscribed", "subscribes"][..],
            &["enable", "enabled", "enabling"],
            &["stop", "stopping", "stopped", "stops"],
            &["cancel", "cancels", "canceling"],
            &["delete", "deleted", "deleting"],
        ] {
            assert!(forms.iter().all(|form| stem(form) == stem(forms[0])), "{forms:?}");
        }
    }
}
