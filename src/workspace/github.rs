//! GitHub's two places: a codespace, and a job of Actions.
//!
//! `GITHUB_TOKEN` proves nothing about the place and is never looked at. Codespaces gives its variables to most
//! processes and not to all (not to those of an ssh session), so the file that it keeps them in stands in for them.

use super::{Env, Files, Pipeline, Platform, Trust, Workspace, vcs::Remote};
use std::path::PathBuf;

/// What Codespaces tells the container, as one JSON object; it also holds secrets, so only named keys are taken.
const SHARED: &str = "/workspaces/.codespaces/shared/environment-variables.json";
/// The keys that are taken from it.
const TAKEN: [&str; 6] = [
    "ACTION_NAME",
    "CODESPACES",
    "CODESPACE_NAME",
    "GITHUB_REPOSITORY",
    "GITHUB_SERVER_URL",
    "GITHUB_USER",
];

/// Whether `CODESPACES` is set, here or in the file.
pub(super) fn is_codespace(env: &Env, files: &Files) -> bool {
    variables(env, files).says_yes("CODESPACES")
}

/// Actions sets `GITHUB_ACTIONS` in every step.
pub(super) fn is_job(env: &Env) -> bool {
    env.says_yes("GITHUB_ACTIONS")
}

/// Codespaces builds its templates in a job of Actions and names that action in the file; the person who opens a
/// codespace that was made from one finds another name there.
pub(super) fn is_prebuild(env: &Env, files: &Files) -> bool {
    let variables = variables(env, files);
    variables.says_yes("CODESPACES")
        && (is_job(env)
            || env.get("ACTIONS_ID_TOKEN_REQUEST_URL").is_some()
            || variables.get("ACTION_NAME") == Some("createPrebuildTemplate"))
}

/// The codespace's name is its id: it is unique, and another than the one that people may give it.
pub(super) fn codespace(env: &Env, files: &Files) -> Workspace {
    let env = variables(env, files);
    let mut workspace = Workspace::unknown(Platform::Codespaces, Trust::Platform);
    workspace.id = env.owned("CODESPACE_NAME").unwrap_or_default();
    workspace.name = env.owned("CODESPACE_NAME");
    workspace.owner = env.owned("GITHUB_USER");
    workspace.repository = repository(&env);
    // Codespaces clones there. If there is nothing, then git has nothing to say.
    workspace.checkout = workspace
        .repository
        .as_ref()
        .map(|repository| PathBuf::from("/workspaces").join(&repository.name));
    workspace.trusting(Trust::Platform)
}

/// A job, one of a run. An attempt is what elsewhere is an instance.
pub(super) fn job(env: &Env) -> Workspace {
    let mut workspace = Workspace::unknown(Platform::GithubActions, Trust::Platform);
    let run = env.owned("GITHUB_RUN_ID");
    let job = env.owned("GITHUB_JOB");
    workspace.id = run.iter().chain(&job).map(String::as_str).collect::<Vec<_>>().join("/");
    workspace.name = job.clone();
    workspace.instance_id = env.owned("GITHUB_RUN_ATTEMPT");
    workspace.owner = env.owned("GITHUB_ACTOR_ID").or_else(|| env.owned("GITHUB_ACTOR"));
    workspace.repository = repository(env);
    workspace.checkout = env.directory("GITHUB_WORKSPACE");
    // In a pull request the ref is a merge that no branch has; the head is the branch that somebody works on.
    workspace.reference = env.owned("GITHUB_HEAD_REF").or_else(|| env.owned("GITHUB_REF_NAME"));
    let page = workspace
        .repository
        .as_ref()
        .and_then(|repository| repository.url.clone());
    workspace.url = page.zip(run.as_ref()).map(|(page, run)| {
        let attempt = workspace.instance_id.as_ref();
        let attempt = attempt.map(|number| format!("/attempts/{number}")).unwrap_or_default();
        format!("{page}/actions/runs/{run}{attempt}")
    });
    workspace.pipeline = Some(Pipeline {
        name: env.owned("GITHUB_WORKFLOW"),
        run_id: run,
        run_url: workspace.url.clone(),
        task: job,
        worker_name: env.owned("RUNNER_NAME"),
        revision: env.owned("GITHUB_SHA"),
        is_tag: env.get("GITHUB_REF_TYPE") == Some("tag"),
        // Which environment a job deploys to, Actions tells nobody but its own expressions.
        ..Pipeline::default()
    });
    workspace.trusting(Trust::Platform)
}

fn repository(env: &Env) -> Option<Remote> {
    let server = env.get("GITHUB_SERVER_URL").unwrap_or("https://github.com");
    let path = env.get("GITHUB_REPOSITORY")?;
    Remote::parse(&format!("{}/{path}", server.trim_end_matches('/')))
}

/// The environment, or what the file has of it where `CODESPACES` is not in the environment.
fn variables(env: &Env, files: &Files) -> Env {
    let mut variables = Env(TAKEN
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), env.get(name)?.to_owned())))
        .collect());
    if variables.says_yes("CODESPACES") && variables.get("ACTION_NAME").is_some() {
        return variables;
    }
    let file = files
        .read(SHARED)
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    for name in TAKEN {
        if let Some(value) = file.as_ref().and_then(|file| file[name].as_str()) {
            variables.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    variables
}
