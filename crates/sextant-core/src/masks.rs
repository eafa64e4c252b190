//! Creates a mask for each run. Of the databases' secrets, its log can contain only those of databases that the run got. Masking the
//! secrets of other databases would hide unrelated words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::mask::{Mask, MaskError};

/// The secrets that logs must not contain, in all their forms.
#[derive(Default)]
pub struct Secrets {
    /// Secrets that no log may contain.
    pub common: Vec<String>,
    /// Secrets by database label, for the logs of runs that got the database.
    pub of_databases: BTreeMap<String, Vec<String>>,
}

/// Creates masks. Like them, it can't be printed.
pub struct Masks {
    secrets: Secrets,
    every: Arc<Mask>,
}

impl Masks {
    /// # Errors
    /// If a mask of all these secrets together can't be created.
    pub fn new(secrets: Secrets) -> Result<Self, MaskError> {
        let every = secrets.common.iter().chain(secrets.of_databases.values().flatten()).cloned();
        Ok(Self { every: Arc::new(Mask::new(every)?), secrets })
    }

    /// The labels of a task's databases that the node has. They determine a run's mask, however many other labels the task has.
    pub fn known<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let known = labels.into_iter().filter(|label| self.secrets.of_databases.contains_key(*label));
        known.map(str::to_owned).collect()
    }

    /// The mask for a run that asked for these databases.
    pub fn for_databases<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> Arc<Mask> {
        let asked = labels.into_iter().filter_map(|label| self.secrets.of_databases.get(label)).flatten();
        let mask = Mask::new(self.secrets.common.iter().chain(asked).cloned());
        // A mask of a subset is possible if a mask of all secrets is. If it fails anyway, use the mask of all.
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
