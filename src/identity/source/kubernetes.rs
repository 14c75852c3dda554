//! `kubernetes`: the token that the kubelet projects into the pod and replaces before it ends. It is opened anew at
//! each look. It names the service account, never a person.
//!
//! A token that is not for the audience asked for is refused: the one that every pod has is for the cluster's API
//! server, and whoever got it could act there as the pod.
//!
//! The document: "Configure Service Accounts for Pods", kubernetes.io/docs/tasks/configure-pod-container/configure-service-account.

use std::path::{Path, PathBuf};

use super::{Asking, MintError, Minted, file};
use crate::identity::claims::Claims;

/// Where a pod's specification is advised to mount it.
pub const PROJECTED: &str = "/var/run/secrets/tagalong/token";

/// A projected token.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    path: PathBuf,
}

impl Kubernetes {
    /// The projected file at `path`, or where a pod has its own account's by default.
    pub fn new(path: Option<&Path>) -> Kubernetes {
        Kubernetes {
            path: path.map_or_else(|| PathBuf::from(PROJECTED), Path::to_owned),
        }
    }

    pub(super) fn ended(&self) -> String {
        file::ended(&self.path)
    }

    pub(super) async fn mint(&self, asking: &Asking<'_>) -> Result<Minted, MintError> {
        let audience = asking.audience()?;
        let minted = file::read(&self.path).await?;
        let claims = minted.token.as_ref().and_then(|token| Claims::decode(token.expose()));
        match claims {
            Some(claims) if claims.audiences().contains(&audience) => Ok(minted),
            Some(_) => Err(MintError::Config(format!(
                "the token in {} is for another audience: mount a serviceAccountToken with audience {audience}",
                self.path.display()
            ))),
            None => Err(MintError::Transient(format!(
                "{} holds no projected token",
                self.path.display()
            ))),
        }
    }
}
