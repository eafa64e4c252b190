//! GPUs for `algorithm_device_requests: {gpu: true}`: the cluster's resource and the runtime class that provides it.

use std::num::NonZeroU32;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::names;
use super::super::reader::{Field, Section, Unknown};
use super::KubernetesConfig;

/// The GPUs that each algorithm gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The resource under which the cluster's device plugin offers GPUs. Default `nvidia.com/gpu`.
    pub resource: String,
    /// How many. Default 1.
    pub count: NonZeroU32,
    /// The pod's `runtimeClassName`; `None`: the cluster's default runtime.
    pub runtime_class: Option<String>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self { resource: "nvidia.com/gpu".to_owned(), count: NonZeroU32::MIN, runtime_class: None }
    }
}

/// Reads `kubernetes.gpu` and reports its errors.
pub(super) fn read(field: &Field<'_>) -> Option<Gpu> {
    let section = field.section("a mapping with `resource`, `count` and `runtime_class`")?;
    let default = Gpu::default();
    let resource = section.get("resource").map_or(Some(default.resource), |field| {
        let expected = "a resource of the cluster with its domain, like `nvidia.com/gpu`";
        let name = field.text(expected)?;
        if !name.contains('/') || !names::is_label_key(name) {
            field.wrong(expected, "");
            return None;
        }
        Some(name.to_owned())
    });
    let count = section.get("count").map_or(Some(default.count), |field| {
        let expected = "a whole number from 1 on";
        let count = NonZeroU32::new(field.number(expected)?);
        if count.is_none() {
            field.wrong(expected, "For no GPUs, take `algorithm_device_requests` out.");
        }
        count
    });
    let runtime_class = section.get("runtime_class").map_or(Some(None), |field| {
        let expected = "the name of a RuntimeClass: small letters, digits, `-` and `.`";
        let name = field.text(expected)?;
        if !names::is_dns_name(name) {
            field.wrong(expected, "");
            return None;
        }
        Some(Some(name.to_owned()))
    });
    section.finish_own();
    Some(Gpu { resource: resource?, count: count?, runtime_class: runtime_class? })
}

/// Reads `algorithm_device_requests`: whether algorithms get GPUs.
pub(in super::super) fn are_requested(file: &Section<'_>) -> bool {
    let Some(field) = file.get("algorithm_device_requests") else { return false };
    let Some(section) = field.section("a mapping like `{gpu: true}`") else { return false };
    let requested = section.get("gpu").is_some_and(|field| field.boolean().unwrap_or(false));
    section.finish(Unknown::Refuse);
    requested
}

/// Adds the requested GPUs to the algorithms' limits, and discards `kubernetes.gpu` if none are requested.
pub(in super::super) fn request(file: &Section<'_>, config: &mut KubernetesConfig, requested: bool) {
    let told = config.gpu.take();
    let gpu = match (told, requested) {
        (told, true) => told.unwrap_or_default(),
        (None, false) => return,
        (Some(_), false) => {
            let section = file.get("kubernetes").and_then(|field| field.section(""));
            if let Some(field) = section.and_then(|section| section.get("gpu")) {
                field.warn("has no effect without `algorithm_device_requests: {gpu: true}`, which gives GPUs to all algorithms.");
            }
            return;
        }
    };
    let limits = config.resources.limits.get_or_insert_default();
    let count = gpu.count.to_string();
    if limits.get(&gpu.resource).is_some_and(|limit| limit.0 != count)
        && let Some(field) = file.get("algorithm_device_requests")
    {
        field.warn(format_args!(
            "gives {count} {} to each algorithm, but `kubernetes.resources.limits` has another number, which counts. Take one of them out.",
            gpu.resource
        ));
    }
    limits.entry(gpu.resource.clone()).or_insert(Quantity(count));
    config.gpu = Some(gpu);
}
