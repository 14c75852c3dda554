//! Which of the values that were found of the workspace its own credential confirms. Pure.
//!
//! A platform writes into a token where it was minted, and signs it; what a variable says too is then the signature's
//! word and not the environment's alone. Only equal values count: a token that says something else, or nothing, changes
//! no value and no belief. The claims are those of the vendors' documents that the families name; Codespaces, Coder and
//! the others have no token of their own.

use serde_json::Value;

use super::{Claims, Family};
use crate::workspace::{Platform, Workspace, vcs::Remote};

impl Claims {
    /// The names of the confirmed fields, as `workspace.trust` has them.
    pub fn confirmed(&self, workspace: &Workspace) -> Vec<&'static str> {
        let Some(issuer) = self.text("iss") else {
            return Vec::new();
        };
        let remote = workspace.repository.as_ref();
        let is = |field: &Option<String>, claim: &str| field.is_some() && *field == self.text(claim);
        let (platform, checks) = match self.family(&issuer) {
            Family::Gitpod => (
                Platform::Gitpod,
                vec![
                    ("id", self.text("workspace_id").as_ref() == Some(&workspace.id)),
                    ("owner", is(&workspace.owner, "user_id")),
                    ("repository", self.is_clone_url("repository", remote)),
                ],
            ),
            Family::Ona => (
                Platform::Ona,
                vec![
                    ("id", self.text("environment_id").as_ref() == Some(&workspace.id)),
                    ("owner", is(&workspace.owner, "creator_id")),
                ],
            ),
            Family::GithubActions => (
                Platform::GithubActions,
                vec![
                    ("instance_id", is(&workspace.instance_id, "run_attempt")),
                    (
                        "owner",
                        is(&workspace.owner, "actor_id") || is(&workspace.owner, "actor"),
                    ),
                    ("repository", self.is_path("repository", remote)),
                    (
                        "reference",
                        is(&workspace.reference, "head_ref") || self.is_reference("ref", workspace),
                    ),
                ],
            ),
            Family::GitlabCi => (
                Platform::GitlabCi,
                vec![
                    ("id", self.text("job_id").as_ref() == Some(&workspace.id)),
                    ("owner", is(&workspace.owner, "user_id")),
                    ("repository", self.is_path("project_path", remote)),
                    ("reference", self.is_reference("ref", workspace)),
                ],
            ),
            Family::Workload if issuer.starts_with("https://vstoken.dev.azure.com/") => (
                Platform::AzureDevops,
                vec![
                    ("repository", self.is_clone_url("rpo_uri", remote)),
                    ("reference", self.is_reference("rpo_ref", workspace)),
                ],
            ),
            Family::Workload | Family::Entra | Family::Okta | Family::Oidc => return Vec::new(),
        };
        // A token from elsewhere says nothing of here, be its values what they may.
        if platform != workspace.platform {
            return Vec::new();
        }
        let confirmed = checks.into_iter().filter(|(_, holds)| *holds).map(|(field, _)| field);
        std::iter::once("platform").chain(confirmed).collect()
    }

    /// The workspace or job that the token was made in, if that is another than the one of this name.
    pub fn elsewhere(&self, id: &str) -> Option<String> {
        let theirs = self.text(match self.family(&self.text("iss")?) {
            Family::Gitpod => "workspace_id",
            Family::Ona => "environment_id",
            Family::GitlabCi => "job_id",
            // A run of Actions is no workspace's name; the others know of no workspace.
            Family::GithubActions | Family::Entra | Family::Okta | Family::Workload | Family::Oidc => return None,
        })?;
        (theirs != id).then_some(theirs)
    }

    fn is_clone_url(&self, claim: &str, remote: Option<&Remote>) -> bool {
        let said = self.0.get(claim).and_then(Value::as_str).and_then(Remote::parse);
        remote.is_some() && said.as_ref() == remote
    }

    /// `owner/name`; hosts of repositories take both for the same in any case.
    fn is_path(&self, claim: &str, remote: Option<&Remote>) -> bool {
        let (Some(said), Some(remote)) = (self.text(claim), remote) else {
            return false;
        };
        let owner = remote.owner.as_deref().unwrap_or_default();
        said.eq_ignore_ascii_case(&format!("{owner}/{}", remote.name))
    }

    /// A branch or a tag, in full or by its name alone.
    fn is_reference(&self, claim: &str, workspace: &Workspace) -> bool {
        let (Some(said), Some(found)) = (self.text(claim), &workspace.reference) else {
            return false;
        };
        let names = ["refs/heads/", "refs/tags/"];
        let name = names.iter().find_map(|prefix| said.strip_prefix(prefix));
        name.unwrap_or(&said) == found
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::{
        identity::claims::tests::jwt,
        workspace::{self, Env, Files},
    };

    fn place(variables: &[(&str, &str)]) -> Workspace {
        let pairs = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let state = tempfile::tempdir().expect("a directory");
        let files = Files::below(Path::new("/nonexistent"));
        workspace::detect(
            &Env(pairs.collect()),
            &files,
            &workspace::Config::default(),
            state.path(),
        )
        .expect("a place")
    }

    fn gitpod() -> Workspace {
        place(&[
            ("GITPOD_WORKSPACE_ID", "acme-app-1"),
            ("GITPOD_INSTANCE_ID", "i-1"),
            ("GITPOD_OWNER_ID", "u-1"),
            (
                "GITPOD_WORKSPACE_CONTEXT",
                r#"{"repository":{"cloneUrl":"https://github.com/acme/app.git"},"ref":"main"}"#,
            ),
        ])
    }

    fn confirmed(claims: &serde_json::Value, workspace: &Workspace) -> String {
        let claims = Claims::decode(&jwt(claims)).expect("a token");
        claims.confirmed(workspace).join(" ")
    }

    #[test]
    fn a_gitpod_token_confirms_workspace_repository_and_owner() {
        let mut claims = json!({
            "iss": "https://api.gitpod.io/idp", "user_id": "u-1", "workspace_id": "acme-app-1",
            "repository": "https://github.com/acme/app",
        });
        assert_eq!(confirmed(&claims, &gitpod()), "platform id owner repository");
        claims["workspace_id"] = "another-2".into();
        claims["repository"] = "https://github.com/acme/other".into();
        assert_eq!(confirmed(&claims, &gitpod()), "platform owner");
    }

    #[test]
    fn a_job_of_github_confirms_its_repository_in_any_case_its_branch_and_its_attempt() {
        let job = place(&[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "Acme/app"),
            ("GITHUB_REF_NAME", "main"),
            ("GITHUB_RUN_ID", "7"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_ACTOR_ID", "9"),
        ]);
        let claims = json!({
            "iss": "https://token.actions.githubusercontent.com", "actor_id": "9", "repository_id": "3",
            "repository": "acme/app", "ref": "refs/heads/main", "run_attempt": "2",
        });
        assert_eq!(
            confirmed(&claims, &job),
            "platform instance_id owner repository reference"
        );
    }

    #[test]
    fn a_job_of_gitlab_confirms_itself() {
        let job = place(&[
            ("GITLAB_CI", "true"),
            ("CI_JOB_ID", "42"),
            ("CI_PROJECT_URL", "https://gitlab.example.com/group/sub/app"),
            ("CI_COMMIT_REF_NAME", "v1"),
            ("GITLAB_USER_ID", "5"),
        ]);
        let claims = json!({
            "iss": "https://gitlab.example.com", "user_id": "5", "project_path": "group/sub/app", "job_id": "42", "ref": "v1",
        });
        assert_eq!(confirmed(&claims, &job), "platform id owner repository reference");
    }

    #[test]
    fn a_pipeline_of_azure_devops_confirms_its_repository() {
        let job = place(&[
            ("TF_BUILD", "True"),
            ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/acme/"),
            ("BUILD_REPOSITORY_URI", "https://dev.azure.com/acme/app/_git/app"),
            ("BUILD_SOURCEBRANCH", "refs/heads/main"),
            ("BUILD_BUILDID", "1"),
        ]);
        let claims = json!({
            "iss": "https://vstoken.dev.azure.com/o-1", "sub": "p://acme/app/ci",
            "rpo_uri": "https://dev.azure.com/acme/app/_git/app", "rpo_ref": "refs/heads/main",
        });
        assert_eq!(confirmed(&claims, &job), "platform repository reference");
    }

    #[test]
    fn a_token_from_elsewhere_confirms_nothing_here() {
        let gitlab = json!({ "iss": "https://gitlab.com", "user_id": "u-1", "project_path": "acme/app", "job_id": "acme-app-1" });
        assert_eq!(confirmed(&gitlab, &gitpod()), "");
        let person = json!({ "iss": "https://id.example", "sub": "u-1", "workspace_id": "acme-app-1" });
        assert_eq!(confirmed(&person, &gitpod()), "");
        let plain = json!({ "user_id": "u-1", "workspace_id": "acme-app-1" });
        assert_eq!(confirmed(&plain, &gitpod()), "");
    }
}
