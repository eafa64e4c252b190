//! Metrics whose values are not stored but read at each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Labels;

/// A gauge that is read at each scrape, with a value for each set of labels.
pub struct Reading<F> {
    pub name: &'static str,
    pub help: &'static str,
    pub read: F,
}

impl<F> fmt::Debug for Reading<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<const N: usize, F: Fn() -> Vec<(Labels<N>, f64)> + Send + Sync + 'static> Collector for Reading<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        gauge(&mut encoder, self.name, self.help, (self.read)())
    }
}

/// Writes a gauge.
pub fn gauge<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: Vec<(Labels<N>, f64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        let series = family.encode_family(&labels)?;
        match whole(value) {
            Some(value) => ConstGauge::new(value).encode(series)?,
            None => ConstGauge::new(value).encode(series)?,
        }
    }
    Ok(())
}

/// Writes a counter; its name gets the suffix `_total`.
pub fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    match whole(value) {
        Some(value) => ConstCounter::new(value.unsigned_abs()).encode(family),
        None => ConstCounter::new(value).encode(family),
    }
}

/// Returns a whole number as an integer, so that a count is written without a fraction.
fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64)
}
