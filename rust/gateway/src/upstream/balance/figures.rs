//! What people are told of a service, in `nylon status`.

use super::HttpService;
use super::endpoint::Condition;
use serde_json::{Value, json};

impl HttpService {
    /// Its endpoints, each with its state and its requests in flight.
    pub fn figures(&self) -> Value {
        let endpoints = self.endpoints();
        let endpoints = endpoints.iter().map(|endpoint| {
            let state = match endpoint.condition() {
                Condition::Healthy => "healthy",
                Condition::Unhealthy => "unhealthy",
                Condition::Ejected => "ejected",
            };
            json!({
                "address": endpoint.address.to_string(),
                "weight": endpoint.weight,
                "state": state,
                "in_flight": endpoint.in_flight(),
            })
        });
        let unresolved = self.origins.iter().filter(|origin| !origin.is_resolved()).map(|origin| {
            json!({ "address": origin.address().to_string(), "weight": origin.weight, "state": "unresolved", "in_flight": 0 })
        });
        json!({
            "name": self.name,
            "pending": self.waiting(),
            "endpoints": endpoints.chain(unresolved).collect::<Vec<_>>(),
        })
    }
}
