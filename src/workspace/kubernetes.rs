//! A pod of which nothing more is known than that a cluster runs it.
//!
//! A pod's host name is its name unless its specification says otherwise, so it is asserted. The token that is mounted
//! beside the namespace is for the cluster's API, and is not looked at here.

use super::{Env, Files, Platform, Trust, Workspace};

const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The kubelet tells every container where the cluster's API is.
pub(super) fn is_here(env: &Env) -> bool {
    env.get("KUBERNETES_SERVICE_HOST").is_some()
}

/// `namespace/pod`, as far as it is known.
pub(super) fn detect(files: &Files) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::Kubernetes, Trust::Platform);
    let namespace = files.word(NAMESPACE);
    workspace.name = files.host_name().map(|pod| match namespace {
        Some(namespace) => format!("{namespace}/{pod}"),
        None => pod,
    });
    workspace.trusting(Trust::Asserted)
}
