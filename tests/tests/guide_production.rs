//! The guide's page on production: it says of each setting what it is for, and its Kubernetes manifest has no field that
//! Kubernetes doesn't know, as far as these are written down here, and says what the page promises.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The defaults, in seconds.
const SHUTDOWN_TIMEOUT: u64 = 25;
const START_TIMEOUT: u64 = 60;

const PAGE: &str = include_str!("../../runtime/src/guide/production.md");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Deployment {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: DeploymentSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploymentSpec {
    replicas: u32,
    selector: Selector,
    template: Template,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    metadata: Metadata,
    spec: Pod,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Pod {
    termination_grace_period_seconds: u64,
    share_process_namespace: bool,
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Container {
    name: String,
    image: String,
    env: Vec<Variable>,
    ports: Vec<Port>,
    resources: Resources,
    startup_probe: Probe,
    readiness_probe: Probe,
    liveness_probe: Probe,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Port {
    name: String,
    container_port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    limits: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Probe {
    http_get: HttpGet,
    period_seconds: Option<u64>,
    failure_threshold: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpGet {
    path: String,
    port: String,
}

fn manifest() -> Deployment {
    let block = PAGE.split("```yaml\n").nth(1).expect("the page has one");
    let block = block.split("```").next().expect("it ends");
    serde_saphyr::from_str(block).unwrap_or_else(|error| panic!("{error}\n{block}"))
}

#[test]
fn each_setting_of_a_server_has_its_line() {
    const BUILDER: &str = include_str!("../../runtime/src/server/builder.rs");
    let methods = BUILDER.split("    pub fn ").skip(1);
    let settings = methods.filter_map(|method| {
        let head = method.split('{').next()?;
        let name = head.split(['(', '<']).next()?;
        head.contains("mut self").then_some(name)
    });
    let settings: Vec<&str> = settings.collect();
    assert!(settings.len() > 15, "{settings:?}");
    let table = PAGE.split("# The settings").nth(1);
    let table = table.and_then(|rest| rest.split("\n# ").next());
    let table = table.expect("the page has one");
    for setting in settings {
        let line = table
            .lines()
            .find(|line| line.contains(&format!("`{setting}`")));
        assert!(line.is_some(), "`{setting}` has no line");
    }
}

#[test]
fn it_is_a_deployment_that_finds_its_pods() {
    let deployment = manifest();
    assert_eq!(
        (deployment.api_version.as_str(), deployment.kind.as_str()),
        ("apps/v1", "Deployment")
    );
    assert!(deployment.metadata.name.is_some());
    assert!(deployment.spec.replicas > 0);
    let labels = &deployment.spec.template.metadata.labels;
    let wanted = &deployment.spec.selector.match_labels;
    assert!(!wanted.is_empty());
    assert!(
        wanted
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
    );
}

#[test]
fn whoever_kills_the_pod_waits_longer_than_its_server_takes_to_stop() {
    let pod = manifest().spec.template.spec;
    assert!(PAGE.contains("its `shutdown_timeout` (25 s)"));
    assert!(pod.termination_grace_period_seconds > SHUTDOWN_TIMEOUT);
    assert!(pod.share_process_namespace);
}

#[test]
fn the_probes_ask_the_health_listener() {
    let pod = manifest().spec.template.spec;
    let [container] = &pod.containers[..] else {
        panic!("one container: {pod:?}");
    };
    assert!(!container.name.is_empty() && !container.image.is_empty());
    assert!(container.resources.limits.contains_key("memory"));
    let variable = |name: &str| {
        let found = container.env.iter().find(|variable| variable.name == name);
        &found.unwrap_or_else(|| panic!("no {name}")).value
    };
    assert!(variable("AIOXIDE_WORKERS").parse::<usize>().is_ok());
    let health: std::net::SocketAddr = variable("AIOXIDE_HEALTH").parse().expect("an address");
    assert!(
        health.ip().is_unspecified(),
        "the kubelet asks from outside"
    );
    let port = container.ports.iter().find(|port| port.name == "health");
    assert_eq!(port.map(|port| port.container_port), Some(health.port()));
    for (probe, path) in [
        (&container.startup_probe, "/readyz"),
        (&container.readiness_probe, "/readyz"),
        (&container.liveness_probe, "/livez"),
    ] {
        assert_eq!(probe.http_get.path, path);
        assert_eq!(probe.http_get.port, "health");
    }
    let starts = &container.startup_probe;
    let granted = starts.period_seconds.unwrap_or(10) * starts.failure_threshold.unwrap_or(3);
    assert!(granted > START_TIMEOUT);
    let ready = &container.readiness_probe;
    assert_eq!(
        (ready.period_seconds, ready.failure_threshold),
        (Some(1), Some(1))
    );
}
