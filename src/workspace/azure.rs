//! A job of Azure Pipelines, by the variables that its agent sets for every script.
//!
//! `TF_BUILD` alone is not believed: other tools set it to be taken for a build. `SYSTEM_ACCESSTOKEN` is never read.

use super::{Env, Pipeline, Platform, Trust, Workspace, vcs::Remote};

/// The flag, and the organisation that the job belongs to.
pub(super) fn is_here(env: &Env) -> bool {
    env.says_yes("TF_BUILD") && env.get("SYSTEM_COLLECTIONURI").is_some()
}

/// A job, one of a build. A job's id is of one attempt, within its pipeline.
pub(super) fn detect(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::AzureDevops, Trust::Platform);
    let build = env.owned("BUILD_BUILDID");
    let job = env.owned("SYSTEM_JOBID");
    workspace.id = build
        .iter()
        .chain(&job)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("/");
    workspace.name = env
        .owned("SYSTEM_JOBDISPLAYNAME")
        .or_else(|| env.owned("SYSTEM_JOBNAME"));
    workspace.instance_id = env.owned("SYSTEM_JOBATTEMPT");
    workspace.owner = env.owned("BUILD_REQUESTEDFORID");
    workspace.url = page(env, build.as_deref());
    workspace.checkout = env.directory("BUILD_SOURCESDIRECTORY");
    workspace.repository = env.get("BUILD_REPOSITORY_URI").and_then(Remote::parse);
    let source = env
        .get("SYSTEM_PULLREQUEST_SOURCEBRANCH")
        .or_else(|| env.get("BUILD_SOURCEBRANCH"));
    workspace.reference = source.map(|full| {
        let short = ["refs/heads/", "refs/tags/"]
            .iter()
            .find_map(|prefix| full.strip_prefix(prefix));
        short.unwrap_or(full).to_owned()
    });
    // Both are there in a deployment job, and only there; a name alone is anybody's variable.
    let environment = env.get("ENVIRONMENT_ID").and_then(|_| env.owned("ENVIRONMENT_NAME"));
    workspace.pipeline = Some(Pipeline {
        name: env.owned("BUILD_DEFINITIONNAME"),
        run_id: build,
        run_url: workspace.url.clone(),
        task: workspace.name.clone(),
        task_run_id: job,
        worker_id: env.owned("AGENT_ID"),
        worker_name: env.owned("AGENT_NAME"),
        revision: env.owned("BUILD_SOURCEVERSION"),
        is_tag: source.is_some_and(|full| full.starts_with("refs/tags/")),
        environment,
        ..Pipeline::default()
    });
    workspace.trusting(Trust::Platform)
}

fn page(env: &Env, build: Option<&str>) -> Option<String> {
    let mut url = url::Url::parse(env.get("SYSTEM_COLLECTIONURI")?).ok()?;
    let project = env.get("SYSTEM_TEAMPROJECT")?;
    // The collection is a directory, with or without a slash at its end.
    url.path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend([project, "_build", "results"]);
    url.set_query(Some(&format!("buildId={}", build?)));
    Some(url.into())
}
