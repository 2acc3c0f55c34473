//! Lets each API key make so many requests an hour. The count is kept in the gateway's memory, where a request that is
//! refused costs next to nothing.

use nylon_plugin::{Context, Plugin, Result, export_plugin, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Requests an hour, by key.
    keys: HashMap<String, u32>,
}

struct Quota {
    limit: u32,
    /// When the hour began, and what was used of it.
    used: Mutex<(Instant, u32)>,
}

impl Quota {
    /// Takes one request. What is left, or how long to wait.
    fn take(&self) -> Result<u32, Duration> {
        let mut used = self.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if used.0.elapsed() >= HOUR {
            *used = (Instant::now(), 0);
        }
        if used.1 >= self.limit {
            return Err(HOUR.saturating_sub(used.0.elapsed()));
        }
        used.1 += 1;
        Ok(self.limit - used.1)
    }
}

/// What `request_filter` leaves for `response_filter`, where it has counted.
#[derive(Clone, Default)]
struct Remaining(Option<u32>);

fn plugin(config: Config) -> Result<Plugin> {
    if config.keys.is_empty() {
        return Err("`keys` is empty: nobody could get in".into());
    }
    let quota = |limit| Quota { limit, used: Mutex::new((Instant::now(), 0)) };
    let quotas: HashMap<String, Quota> =
        config.keys.into_iter().map(|(key, limit)| (key, quota(limit))).collect();
    let quotas = Arc::new(quotas);
    Ok(Plugin::new().request_filter("quota", move |ctx| count(ctx, &quotas)).response_filter(
        "quota",
        |ctx| {
            if let Some(remaining) = ctx.state::<Remaining>().0 {
                ctx.response().set_header("x-remaining", remaining.to_string())?;
            }
            Ok(())
        },
    ))
}

fn count(ctx: &mut Context, quotas: &HashMap<String, Quota>) -> Result {
    let key = ctx.request().header("x-api-key")?;
    let Some(quota) = key.as_ref().and_then(|key| key.to_str().ok()).and_then(|key| quotas.get(key)) else {
        ctx.response().set_status(401)?.body_json(&json!({"error": "unauthorized"}))?;
        return ctx.end();
    };
    match quota.take() {
        Ok(left) => {
            *ctx.state::<Remaining>() = Remaining(Some(left));
            ctx.next()
        }
        Err(wait) => {
            let response =
                ctx.response().set_status(429)?.set_header("retry-after", wait.as_secs().to_string())?;
            response.body_json(&json!({"error": "too many requests"}))?;
            ctx.end()
        }
    }
}

export_plugin!(plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use nylon_plugin::testing::PluginClient;

    #[test]
    fn a_key_gets_as_many_requests_as_it_has() {
        let config = Config { keys: HashMap::from([("k-ada".to_owned(), 2)]) };
        let client = PluginClient::new(plugin(config).expect("keys")).expect("a good plugin");
        let ask = |key: &str| client.get("/").header("x-api-key", key).send("quota");
        assert_eq!(ask("k-ada").headers["x-remaining"], "1");
        assert_eq!(ask("k-ada").headers["x-remaining"], "0");
        let refused = ask("k-ada");
        assert_eq!(refused.status, 429);
        assert!(refused.forwarded.is_none());
        assert_eq!(ask("k-eve").status, 401);
    }

    #[test]
    fn a_configuration_without_keys_is_refused() {
        assert!(plugin(Config { keys: HashMap::new() }).is_err());
    }
}
