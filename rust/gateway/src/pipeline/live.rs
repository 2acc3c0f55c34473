//! A plan with everything it needs to run: hosts asked for their entries, routes built, services resolved.
//!
//! An exchange holds on to the live plan that it started with, for all its phases, whatever is reloaded
//! meanwhile.

use super::route::Router;
use crate::files::Files;
use crate::plugin::{PluginEntry, PluginHost, builtin};
use crate::upstream::HttpService;
use nylon_config::plan::{
    Condition, Handler, Middleware, Payload, PlainRequests, Policies, Rewrite, ServiceKind,
};
use nylon_config::{Diagnostic, Plan};
use nylon_core::{Phase, RequestHead};
use std::fmt;
use std::sync::Arc;

/// A plan that can serve requests.
pub struct LivePlan {
    /// The plan as validated.
    pub plan: Arc<Plan>,
    /// The hosts, by plugin index.
    pub hosts: Vec<Arc<dyn PluginHost>>,
    /// The services over HTTP, in the plan's order.
    pub(crate) services: Vec<Arc<HttpService>>,
    pub(crate) router: Router,
    pub(crate) rules: Vec<Rule>,
}

/// What a path leads to, with everything resolved.
pub(crate) struct Rule {
    /// The middleware in the order of `request_filter`; a plugin service is the last link.
    pub links: Vec<Link>,
    pub service: LiveService,
    pub rewrite: Option<Rewrite>,
    /// What plain requests get, where they are not served.
    pub plain: Option<PlainRequests>,
}

/// A service, resolved.
pub(crate) enum LiveService {
    Http(Arc<HttpService>),
    Files(Arc<Files>),
    /// The last link of the chain answers.
    Plugin,
}

/// One middleware, resolved.
pub(crate) struct Link {
    pub entry: Arc<dyn PluginEntry>,
    pub payload: Payload,
    pub policies: Policies,
    /// Which requests it is for.
    pub when: Vec<Arc<Condition>>,
    pub name: LinkName,
}

/// How a middleware is named in logs. A built-in has no entry.
#[derive(Clone, Debug)]
pub(crate) struct LinkName {
    pub plugin: Arc<str>,
    pub entry: Arc<str>,
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.entry {
            "" => f.write_str(&self.plugin),
            entry => write!(f, "{}/{entry}", self.plugin),
        }
    }
}

impl Link {
    /// Whether it is called for this request.
    pub(crate) fn is_for(&self, request: &RequestHead) -> bool {
        self.when.iter().all(|condition| condition.holds(request))
    }

    /// Whether the entry handles this phase, as known now.
    pub(crate) fn handles(&self, phase: Phase) -> bool {
        self.entry.traits().phases.contains(phase)
    }
}

impl LivePlan {
    /// Resolves a plan. `hosts` are in the order of `plan.plugins`. What is known of the endpoints of `before` goes on.
    ///
    /// # Errors
    /// One diagnostic for each entry that its plugin lacks, each built-in that cannot begin, and each service whose files
    /// are broken, at the place in the config that names it.
    pub(crate) fn build(
        plan: Arc<Plan>,
        hosts: Vec<Arc<dyn PluginHost>>,
        before: Option<&LivePlan>,
        state: &builtin::State,
    ) -> Result<LivePlan, Vec<Diagnostic>> {
        debug_assert_eq!(plan.plugins.len(), hosts.len());
        let mut errors = Vec::new();
        let mut link = |middleware: &Middleware| {
            let (entry, name) = match &middleware.handler {
                Handler::Builtin(builtin) => match builtin::entry(builtin, &plan, state) {
                    Ok(entry) => (entry, LinkName { plugin: builtin.name().into(), entry: "".into() }),
                    Err(why) => {
                        errors.push(middleware.location.diagnostic(why));
                        return None;
                    }
                },
                Handler::Plugin { plugin, entry } => {
                    let name = plan.plugins[plugin.0].name.as_str();
                    match hosts[plugin.0].entry(entry) {
                        Ok(found) => (found, LinkName { plugin: name.into(), entry: entry.as_str().into() }),
                        Err(unknown) => {
                            let what = format!("entry of plugin `{name}`");
                            let known = unknown.known.iter().map(String::as_str);
                            errors.push(middleware.location.unknown_name(&what, &unknown.name, known));
                            return None;
                        }
                    }
                }
            };
            Some(Link {
                entry,
                payload: middleware.payload.clone(),
                policies: middleware.per_phase.clone(),
                when: middleware.when.clone(),
                name,
            })
        };
        let mut https = Vec::new();
        let services: Vec<(LiveService, Option<&Middleware>)> = plan
            .services
            .iter()
            .map(|service| match &service.kind {
                ServiceKind::Http(upstream) => {
                    let mut known = before.into_iter().flat_map(|before| &before.services);
                    let known = known.find(|known| known.name() == service.name);
                    let http = HttpService::new(&service.name, upstream, known.map(|known| &**known));
                    let of_service = |why| {
                        service.location.diagnostic(format!("TLS of service `{}`: {why}", service.name))
                    };
                    let http = Arc::new(http.map_err(of_service)?);
                    https.push(http.clone());
                    Ok((LiveService::Http(http), None))
                }
                ServiceKind::Static(files) => {
                    Ok((LiveService::Files(Arc::new(Files::new(&service.name, files))), None))
                }
                ServiceKind::Plugin(middleware) => Ok((LiveService::Plugin, Some(&**middleware))),
            })
            .collect::<Result<_, Diagnostic>>()
            .map_err(|error| vec![error])?;
        let mut rules = Vec::new();
        let paths = plan.routes.iter().flat_map(|route| route.paths.iter().map(move |path| (route, path)));
        for (route, path) in paths {
            let (service, terminal) = &services[path.service.0];
            rules.push(Rule {
                links: path.middleware.iter().chain(*terminal).filter_map(&mut link).collect(),
                service: match service {
                    LiveService::Http(http) => LiveService::Http(http.clone()),
                    LiveService::Files(files) => LiveService::Files(files.clone()),
                    LiveService::Plugin => LiveService::Plugin,
                },
                rewrite: path.rewrite.clone(),
                plain: route.plain.clone(),
            });
        }
        if !errors.is_empty() {
            errors.dedup();
            return Err(errors);
        }
        let router =
            Router::new(&plan).expect("validation has inserted every pattern into such a tree before");
        Ok(LivePlan { plan, hosts, services: https, router, rules })
    }
}
