//! `kubernetes.scratch`: a volume for each run, whose size limits everything that the algorithm can write.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::names;
use super::super::reader::Field;
use super::resources;

/// The volume that each run gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Scratch {
    /// The StorageClass; `None`: the cluster's default.
    pub storage_class: Option<String>,
    /// Its size.
    pub size: Quantity,
    /// The size in bytes.
    pub bytes: u64,
}

/// Reads the section and reports its errors.
pub(super) fn scratch(field: &Field<'_>) -> Option<Scratch> {
    let section = field.section("a mapping with `size` and `storage_class`")?;
    let size = section.require("size", "how much an algorithm may write, like `10Gi`").and_then(|field| {
        let bytes = resources::bytes(&field, "Take out the whole of `scratch` for no volume.")?;
        Some((Quantity(resources::quantity(&field)?.to_owned()), bytes))
    });
    let storage_class = section.get("storage_class").map(|field| {
        let expected = "the name of a StorageClass: small letters, digits, `-` and `.`";
        let name = field.text(expected)?;
        if !names::is_dns_name(name) {
            field.wrong(expected, "");
            return None;
        }
        Some(name.to_owned())
    });
    section.finish_own();
    let (size, bytes) = size?;
    Some(Scratch { storage_class: storage_class.map_or(Some(None), |name| name.map(Some))?, size, bytes })
}
