//! Registries in memory, which can be made unavailable.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::collections::HashMap;

use parking_lot::Mutex;

use super::*;

/// Registries in memory.
#[derive(Default)]
pub struct FakeRegistries {
    answers: Mutex<HashMap<String, Answer<Digest>>>,
    asked: Mutex<Vec<String>>,
}

impl FakeRegistries {
    /// Sets the answer of an image's registry. Before that, the registry does not have the image.
    pub fn says(&self, image: &str, answer: Answer<Digest>) {
        self.answers.lock().insert(ImageReference::parse(image).unwrap().to_string(), answer);
    }

    /// The images that were requested.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

#[async_trait::async_trait]
impl Registries for FakeRegistries {
    async fn digest(&self, image: &ImageReference) -> Answer<Digest> {
        let name = image.to_string();
        self.asked.lock().push(name.clone());
        self.answers.lock().get(&name).cloned().unwrap_or_else(|| Answer::No("it has no such image".into()))
    }
}
