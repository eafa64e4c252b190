//! A mask for each run: of the databases' secrets, only those of databases that the run got can be in its log. Masking those of others
//! would hide words that mean something else there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::mask::{Mask, MaskError};

/// What must not be in a log, in all forms.
#[derive(Default)]
pub struct Secrets {
    /// In no log.
    pub common: Vec<String>,
    /// By a database's label: in no log of a run that got the database.
    pub of_databases: BTreeMap<String, Vec<String>>,
}

/// Makes masks. It can't be printed, like them.
pub struct Masks {
    secrets: Secrets,
    every: Arc<Mask>,
}

impl Masks {
    /// # Errors
    /// If no mask can be made of all these secrets together.
    pub fn new(secrets: Secrets) -> Result<Self, MaskError> {
        let every = secrets.common.iter().chain(secrets.of_databases.values().flatten()).cloned();
        Ok(Self { every: Arc::new(Mask::new(every)?), secrets })
    }

    /// Those of a task's databases that the node has: which ones a run gets is known by these, however much else the task says.
    pub fn known<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let known = labels.into_iter().filter(|label| self.secrets.of_databases.contains_key(*label));
        known.map(str::to_owned).collect()
    }

    /// For a run that asked for these databases.
    pub fn for_databases<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> Arc<Mask> {
        let asked = labels.into_iter().filter_map(|label| self.secrets.of_databases.get(label)).flatten();
        let mask = Mask::new(self.secrets.common.iter().chain(asked).cloned());
        // Fewer than all can be looked for where all can.
        mask.map_or_else(|_| self.every.clone(), Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_masked_for_the_databases_that_it_got() {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let of_databases = [("omop", texts(&["hunter-2"])), ("lab", texts(&["hunter-3"]))];
        let secrets = Secrets {
            common: texts(&["the-key"]),
            of_databases: of_databases.map(|(label, secrets)| (label.to_owned(), secrets)).into(),
        };
        let masks = Masks::new(secrets).unwrap();
        for (labels, expected) in [
            (&[][..], "*** hunter-2 hunter-3"),
            (&["omop"], "*** *** hunter-3"),
            (&["lab", "unknown", "lab"], "*** hunter-2 ***"),
            (&["omop", "lab"], "*** *** ***"),
        ] {
            let mask = masks.for_databases(labels.iter().copied());
            assert_eq!(mask.text("the-key hunter-2 hunter-3"), expected, "{labels:?}");
        }
    }
}
