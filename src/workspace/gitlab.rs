//! GitLab's two places: a workspace, and a job of GitLab CI.
//!
//! A workspace has no variable for its own name; the template for its ports' host names holds it. The git name and
//! e-mail that GitLab hands to git are git's settings, so they are never read.

use super::{Env, Pipeline, Platform, Trust, Workspace, vcs::Remote};

/// The variables that GitLab injects into every workspace.
pub(super) fn is_workspace(env: &Env) -> bool {
    env.get("GL_WORKSPACE_DOMAIN_TEMPLATE").is_some() || env.get("GL_TOKEN_FILE_PATH").is_some()
}

/// GitLab CI sets `GITLAB_CI` in every job.
pub(super) fn is_job(env: &Env) -> bool {
    env.says_yes("GITLAB_CI")
}

/// The name is part of the host name `${PORT}-NAME.ZONE`, and unique in its instance.
pub(super) fn workspace(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::GitlabWorkspaces, Trust::Platform);
    workspace.name = env
        .get("GL_WORKSPACE_DOMAIN_TEMPLATE")
        .and_then(|template| template.trim().strip_prefix("${PORT}-"))
        .and_then(|host| host.split('.').next())
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .map(str::to_owned);
    workspace.id = workspace.name.clone().unwrap_or_default();
    workspace.trusting(Trust::Platform)
}

/// A job. Trying it again makes a new one with a new id, so there is no instance.
pub(super) fn job(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::GitlabCi, Trust::Platform);
    workspace.id = env.owned("CI_JOB_ID").unwrap_or_default();
    workspace.name = env.owned("CI_JOB_NAME");
    workspace.url = env.owned("CI_JOB_URL");
    workspace.owner = env.owned("GITLAB_USER_ID");
    workspace.checkout = env.directory("CI_PROJECT_DIR");
    // Not CI_REPOSITORY_URL: that one carries the job's token.
    workspace.repository = env.get("CI_PROJECT_URL").and_then(Remote::parse);
    workspace.reference = env.owned("CI_COMMIT_REF_NAME");
    workspace.pipeline = Some(Pipeline {
        name: env.owned("CI_PIPELINE_NAME"),
        run_id: env.owned("CI_PIPELINE_ID"),
        run_url: env.owned("CI_PIPELINE_URL"),
        task: env.owned("CI_JOB_NAME"),
        task_run_id: env.owned("CI_JOB_ID"),
        task_run_url: env.owned("CI_JOB_URL"),
        worker_id: env.owned("CI_RUNNER_ID"),
        worker_name: env.owned("CI_RUNNER_DESCRIPTION"),
        revision: env.owned("CI_COMMIT_SHA"),
        is_tag: env.get("CI_COMMIT_TAG").is_some(),
        environment: env.owned("CI_ENVIRONMENT_NAME"),
    });
    workspace.trusting(Trust::Platform)
}
