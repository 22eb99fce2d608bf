//! One call as it is being written: a JSON object with a name and arguments.
//!
//! Reads letter by letter; arguments are passed on as they are written and not checked.
//!
//! Invariants: nothing is passed on before the name is known; what was read is kept until then.

use std::sync::Arc;

/// What has become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    Open,
    /// The object is closed.
    Closed,
    /// It is no call, or not any more.
    Broken,
}

/// Where in the object the next letter falls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Key,
    InKey,
    Colon,
    Value,
    /// In a string that is wanted as a whole.
    InText,
    InArguments,
    /// In a value that nobody asked for.
    InOther,
}

/// What a value at the first level is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Name,
    Arguments,
    Other,
}

/// A call, as far as it was written.
#[derive(Debug, Clone, Default)]
pub(super) struct CallText {
    place: Place,
    raw: String,
    name: Option<String>,
    /// Read and not yet passed on.
    arguments: String,
    has_arguments: bool,
    key: String,
    text: String,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// Whose names make this a call; any name does if there are none.
    names: Option<Arc<[String]>>,
}

impl CallText {
    /// Where nothing announces a call, only the name of a known tool makes one.
    pub(super) fn unannounced(names: Arc<[String]>) -> Self {
        Self { names: Some(names), ..Self::default() }
    }

    pub(super) fn is_call(&self) -> bool {
        self.name.is_some()
    }

    pub(super) fn name(&self) -> Option<&String> {
        self.name.as_ref()
    }

    /// All that was read, as long as it is not known to be a call.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    pub(super) fn take_arguments(&mut self) -> String {
        std::mem::take(&mut self.arguments)
    }

    /// Reads as much as belongs to the call; how much that was. The first of a list has a bracket before it.
    pub(super) fn read(&mut self, text: &str, is_first_of_list: bool) -> (usize, Progress) {
        for (at, letter) in text.char_indices() {
            if self.name.is_none() {
                self.raw.push(letter);
            }
            let opens_list = is_first_of_list && letter == '[' && self.raw.trim() == "[";
            let progress =
                if self.place == Place::Before && opens_list { Progress::Open } else { self.step(letter) };
            if progress != Progress::Open {
                return (at + letter.len_utf8(), progress);
            }
        }
        (text.len(), Progress::Open)
    }

    fn step(&mut self, letter: char) -> Progress {
        let is_space = letter.is_ascii_whitespace();
        match self.place {
            Place::Before | Place::Key | Place::Colon | Place::Value if is_space => Progress::Open,
            Place::Before => self.go_on(letter == '{', Place::Key),
            Place::Key => match letter {
                ',' => Progress::Open,
                '"' => {
                    self.key.clear();
                    self.go_on(true, Place::InKey)
                }
                '}' => self.close(),
                _ => Progress::Broken,
            },
            Place::InKey => {
                if self.ends_string(letter) {
                    return self.go_on(true, Place::Colon);
                }
                self.key.push(letter);
                Progress::Open
            }
            Place::Colon => self.go_on(letter == ':', Place::Value),
            Place::Value => self.begin_value(letter),
            Place::InText => self.continue_text(letter),
            Place::InArguments | Place::InOther => self.continue_value(letter),
        }
    }

    fn go_on(&mut self, fits: bool, place: Place) -> Progress {
        if !fits {
            return Progress::Broken;
        }
        self.place = place;
        Progress::Open
    }

    fn close(&mut self) -> Progress {
        if self.name.is_none() {
            return Progress::Broken;
        }
        if !self.has_arguments {
            self.arguments.push_str("{}");
        }
        Progress::Closed
    }

    fn meaning(&self) -> Meaning {
        match self.key.as_str() {
            "name" => Meaning::Name,
            "arguments" | "parameters" => Meaning::Arguments,
            _ => Meaning::Other,
        }
    }

    fn begin_value(&mut self, letter: char) -> Progress {
        self.text.clear();
        self.depth = 0;
        match (self.meaning(), letter) {
            // A key that comes again would make two JSON texts of one.
            (Meaning::Arguments, _) if self.has_arguments => {
                self.place = Place::InOther;
                self.continue_value(letter)
            }
            // Some models write the arguments as a text that has the JSON.
            (Meaning::Name | Meaning::Arguments, '"') => self.go_on(true, Place::InText),
            (Meaning::Name, _) => Progress::Broken,
            (Meaning::Arguments, '{') => {
                self.place = Place::InArguments;
                self.has_arguments = true;
                self.continue_value(letter)
            }
            (Meaning::Arguments | Meaning::Other, _) => {
                self.place = Place::InOther;
                self.continue_value(letter)
            }
        }
    }

    fn continue_text(&mut self, letter: char) -> Progress {
        if !self.ends_string(letter) {
            self.text.push(letter);
            return Progress::Open;
        }
        let Ok(text) = serde_json::from_str::<String>(&format!("\"{}\"", self.text)) else {
            return Progress::Broken;
        };
        if self.meaning() == Meaning::Arguments {
            self.has_arguments = true;
            self.arguments.push_str(&text);
            return self.go_on(true, Place::Key);
        }
        if self.names.as_ref().is_some_and(|names| !names.contains(&text)) {
            return Progress::Broken;
        }
        self.name = Some(text);
        self.go_on(true, Place::Key)
    }

    /// A value of any kind; it ends with its last bracket, or before what follows it.
    fn continue_value(&mut self, letter: char) -> Progress {
        let is_wanted = self.place == Place::InArguments;
        if self.in_string {
            self.in_string = !self.ends_string(letter);
        } else {
            match letter {
                '"' => self.in_string = true,
                '{' | '[' => self.depth += 1,
                ',' if self.depth == 0 => return self.go_on(true, Place::Key),
                '}' if self.depth == 0 => return self.close(),
                '}' | ']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.place = Place::Key;
                    }
                }
                _ => {}
            }
        }
        if is_wanted {
            self.arguments.push(letter);
        }
        Progress::Open
    }

    /// Whether the letter is the quote that ends the string it is in.
    fn ends_string(&mut self, letter: char) -> bool {
        let is_escaped = self.is_escaped;
        self.is_escaped = letter == '\\' && !is_escaped;
        letter == '"' && !is_escaped
    }
}
