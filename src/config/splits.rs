//! Reads `splits.toml`; `routing::split` knows what makes a split good.

use toml::Value;

use super::sources::Source;
use super::{Reader, read};
use crate::routing::Catalog;
use crate::routing::split::{Given, Splits};

impl Reader<'_> {
    /// `None` where a split has a mistake; each is noted.
    pub(super) fn splits(
        &mut self,
        source: &Source,
        catalog: Option<&Catalog>,
        min_similarity: f32,
    ) -> Option<Splits> {
        let mut table = self.table(source)?;
        let entries = table.remove("split").unwrap_or(Value::Array(Vec::new()));
        let unknown =
            table.keys().map(|key| (key.clone(), "is not known here; splits are `[[split]]` tables"));
        self.mistakes_in(source, unknown.map(|(key, problem)| (key, problem.to_owned())));
        let Value::Array(entries) = entries else {
            let problem = "is not a list; write each split as a `[[split]]` table".to_owned();
            self.mistakes_in(source, [("split".to_owned(), problem)]);
            return None;
        };
        // One by one, so that a bad split does not change the number of those after it.
        let mut given = Vec::new();
        for (idx, entry) in entries.into_iter().enumerate() {
            let at = format!("split[{idx}]");
            let mut found = Vec::new();
            let config = read::section(entry, &at, &mut |key, problem| found.push((key, problem)));
            let is_whole = found.is_empty();
            self.mistakes_in(source, found);
            given.extend(config.map(|config| Given { at, config, is_whole }));
        }
        let splits = Splits::try_new(&given, catalog, min_similarity);
        splits.map_err(|mistakes| self.mistakes_in(source, mistakes)).ok()
    }
}
