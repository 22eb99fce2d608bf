//! Units and number words, each with its many spellings and its one name.
//!
//! Does not convert: 1 km and 1000 m are not the same to it.
//!
//! Invariants: a spelling belongs to one unit.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spelling_belongs_to_one_unit() {
        let mut spellings: Vec<&str> =
            UNITS.iter().flat_map(|(_, spellings)| spellings.iter().copied()).collect();
        let n_all = spellings.len();
        spellings.sort_unstable();
        spellings.dedup();

        assert_eq!(spellings.len(), n_all);
    }
}
