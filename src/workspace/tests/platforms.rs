//! Each platform with the environment that its own documents give it, and places that are inside others.

use super::{super::*, Machine};

/// What is found, as `field=value (trust)` lines; a field that is not known has no line.
fn found(env: &Env, machine: &Machine) -> Vec<String> {
    let state = tempfile::tempdir().unwrap();
    let workspace = detect(env, &machine.files(), &Config::default(), state.path()).unwrap();
    let repository = workspace.repository.as_ref().and_then(|remote| remote.url.clone());
    let id = match state.path().join("workspace-id").exists() {
        true => "kept".to_owned(),
        false => workspace.id.clone(),
    };
    let fields = [
        ("platform", Some(workspace.platform.as_str().to_owned())),
        ("id", Some(id)),
        ("name", workspace.name.clone()),
        ("url", workspace.url.clone()),
        ("instance_id", workspace.instance_id.clone()),
        ("repository", repository),
        ("reference", workspace.reference.clone()),
        ("owner", workspace.owner.clone()),
    ];
    let mut lines: Vec<String> = fields
        .into_iter()
        .filter_map(|(field, value)| Some((field, value?)))
        .map(|(field, value)| {
            let trust = match workspace.trust.get(field) {
                Some(Trust::Verified) => "verified",
                Some(Trust::Platform) => "platform",
                Some(Trust::Asserted) => "asserted",
                None => "nobody's",
            };
            format!("{field}={value} ({trust})")
        })
        .collect();
    lines.extend(
        workspace
            .checkout
            .iter()
            .map(|path| format!("checkout={}", path.display())),
    );
    lines.extend(workspace.prebuild.then(|| "prebuild".to_owned()));
    lines
}

fn env(pairs: &[(&str, &str)]) -> Env {
    Env(pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect())
}

/// One platform, its environment, its files, and what is to be found.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

/// One place in others, their variables, and the platform that it is.
type Nested<'a> = (&'static str, &'a [(&'static str, &'static str)], Platform);

const CODESPACE: &[(&str, &str)] = &[
    ("CODESPACES", "true"),
    ("CODESPACE_NAME", "octocat-literate-space-parakeet-mld5"),
    ("GITHUB_USER", "octocat"),
    ("GITHUB_REPOSITORY", "acme/app"),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_TOKEN", "ghu_canary"),
    ("GIT_COMMITTER_EMAIL", "whoever@example.com"),
];

const FOUND_CODESPACE: &[&str] = &[
    "platform=codespaces (platform)",
    "id=octocat-literate-space-parakeet-mld5 (platform)",
    "name=octocat-literate-space-parakeet-mld5 (platform)",
    "repository=https://github.com/acme/app (platform)",
    "owner=octocat (platform)",
    "checkout=/workspaces/app",
];

const SHARED: &str = "/workspaces/.codespaces/shared/environment-variables.json";

const TABLE: &[Row] = &[
    (
        "Gitpod Classic",
        &[
            ("GITPOD_WORKSPACE_ID", "acme-app-abc123"),
            ("GITPOD_WORKSPACE_NAME", "feature work"),
            ("GITPOD_INSTANCE_ID", "0b5c"),
            ("GITPOD_OWNER_ID", "u-1"),
            ("GITPOD_WORKSPACE_URL", "https://acme-app-abc123.ws.gitpod.example"),
            ("GITPOD_REPO_ROOT", "/workspace/app"),
            (
                "GITPOD_WORKSPACE_CONTEXT",
                r#"{"ref":"main","revision":"abc","repository":{"owner":"acme","name":"app","cloneUrl":"https://x:t0k@github.com/acme/app.git"}}"#,
            ),
            ("GITPOD_GIT_USER_EMAIL", "whoever@example.com"),
            ("SUPERVISOR_ADDR", "localhost:22999"),
        ],
        &[],
        &[
            "platform=gitpod (platform)",
            "id=acme-app-abc123 (platform)",
            "name=feature work (platform)",
            "url=https://acme-app-abc123.ws.gitpod.example (platform)",
            "instance_id=0b5c (platform)",
            "repository=https://github.com/acme/app (platform)",
            "reference=main (platform)",
            "owner=u-1 (platform)",
            "checkout=/workspace/app",
        ],
    ),
    (
        "a prebuild of Gitpod Classic",
        &[("GITPOD_WORKSPACE_ID", "acme-app-abc123"), ("GITPOD_HEADLESS", "true")],
        &[],
        &[
            "platform=gitpod (platform)",
            "id=acme-app-abc123 (platform)",
            "prebuild",
        ],
    ),
    (
        "Ona",
        &[
            ("GITPOD_ENVIRONMENT_ID", "0190-env"),
            ("GITPOD_HOST", "https://app.gitpod.io"),
        ],
        &[],
        &["platform=ona (platform)", "id=0190-env (platform)"],
    ),
    ("Codespaces", CODESPACE, &[], FOUND_CODESPACE),
    (
        "an ssh session of a codespace, which has none of the variables",
        &[],
        &[(
            SHARED,
            r#"{"CODESPACES":"true","CODESPACE_NAME":"octocat-literate-space-parakeet-mld5","GITHUB_USER":"octocat","GITHUB_REPOSITORY":"acme/app","GITHUB_TOKEN":"ghu_canary","ACTION_NAME":"createFromPrebuild"}"#,
        )],
        FOUND_CODESPACE,
    ),
    (
        "a template of Codespaces being built, by its file",
        &[("CODESPACES", "true"), ("CODESPACE_NAME", "tmpl")],
        &[(
            SHARED,
            r#"{"CODESPACES":"true","ACTION_NAME":"createPrebuildTemplate"}"#,
        )],
        &[
            "platform=codespaces (platform)",
            "id=tmpl (platform)",
            "name=tmpl (platform)",
            "prebuild",
        ],
    ),
    (
        "a template of Codespaces being built, by the job that it is",
        &[("CODESPACES", "true"), ("GITHUB_ACTIONS", "true")],
        &[],
        &["platform=codespaces (platform)", "id=kept? (asserted)", "prebuild"],
    ),
    (
        "a development container that says so",
        &[("REMOTE_CONTAINERS", "true")],
        &[],
        &["platform=devcontainer (platform)", "id=kept (asserted)"],
    ),
    (
        "a development container that we were brought into",
        &[("TAGALONG_DEVCONTAINER_ID", "1d2f")],
        &[],
        &["platform=devcontainer (asserted)", "id=1d2f (asserted)"],
    ),
    (
        "a development container with our Feature",
        &[("TAGALONG_DEVCONTAINER", "true")],
        &[],
        &["platform=devcontainer (asserted)", "id=kept (asserted)"],
    ),
    (
        "a tool that does not know the variable for the id",
        &[
            ("REMOTE_CONTAINERS", "true"),
            ("TAGALONG_DEVCONTAINER_ID", "${devcontainerId}"),
        ],
        &[],
        &["platform=devcontainer (platform)", "id=kept (asserted)"],
    ),
    (
        "Coder as its agent leaves it",
        &[
            ("CODER", "true"),
            ("CODER_WORKSPACE_NAME", "dev"),
            ("CODER_WORKSPACE_AGENT_NAME", "main"),
            ("CODER_AGENT_TOKEN", "canary"),
        ],
        &[],
        &["platform=coder (platform)", "id=kept (asserted)", "name=dev (platform)"],
    ),
    (
        "Coder with a template that says more",
        &[
            ("CODER", "true"),
            ("CODER_WORKSPACE_NAME", "dev"),
            ("CODER_WORKSPACE_ID", "ws-uuid"),
            ("CODER_WORKSPACE_OWNER_ID", "u-uuid"),
        ],
        &[],
        &[
            "platform=coder (platform)",
            "id=ws-uuid (asserted)",
            "name=dev (platform)",
            "owner=u-uuid (asserted)",
        ],
    ),
    (
        "a workspace of Coder that waits to be claimed",
        &[
            ("CODER", "true"),
            ("CODER_WORKSPACE_ID", "ws-uuid"),
            ("CODER_WORKSPACE_IS_PREBUILD", "true"),
        ],
        &[],
        &["platform=coder (platform)", "id=ws-uuid (asserted)", "prebuild"],
    ),
    (
        "DevPod, which sets VS Code's variable too",
        &[
            ("DEVPOD", "true"),
            ("DEVPOD_WORKSPACE_ID", "app"),
            ("DEVPOD_WORKSPACE_UID", "default-ap-1b2c3"),
            ("REMOTE_CONTAINERS", "true"),
        ],
        &[],
        &[
            "platform=devpod (platform)",
            "id=default-ap-1b2c3 (platform)",
            "name=app (platform)",
        ],
    ),
    (
        "GitLab Workspaces, on its cluster",
        &[
            (
                "GL_WORKSPACE_DOMAIN_TEMPLATE",
                "${PORT}-workspace-72-2-ab12cd.workspaces.example.com",
            ),
            ("GL_TOKEN_FILE_PATH", "/.workspace-data/variables/file/gl_token"),
            ("GIT_CONFIG_VALUE_2", "whoever@example.com"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ],
        &[],
        &[
            "platform=gitlab-workspaces (platform)",
            "id=workspace-72-2-ab12cd (platform)",
            "name=workspace-72-2-ab12cd (platform)",
        ],
    ),
    (
        "Daytona",
        &[("DAYTONA_SANDBOX_ID", "sb-1"), ("DAYTONA_SANDBOX_USER", "daytona")],
        &[],
        &["platform=daytona (platform)", "id=sb-1 (platform)"],
    ),
    (
        "Eclipse Che, on its cluster",
        &[
            ("DEVWORKSPACE_ID", "workspace1f"),
            ("DEVWORKSPACE_NAME", "app"),
            ("DEVWORKSPACE_NAMESPACE", "jdoe-devspaces"),
            ("DEVWORKSPACE_CREATOR", "u-1"),
            ("PROJECTS_ROOT", "/projects"),
            ("PROJECT_SOURCE", "/projects/app"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ],
        &[],
        &[
            "platform=che (platform)",
            "id=workspace1f (platform)",
            "name=app (platform)",
            "owner=u-1 (platform)",
            "checkout=/projects/app",
        ],
    ),
    (
        "CodeCatalyst",
        &[
            ("__DEV_ENVIRONMENT_ID", "de-1"),
            ("__DEV_ENVIRONMENT_SPACE_NAME", "acme"),
        ],
        &[],
        &["platform=codecatalyst (platform)", "id=de-1 (platform)"],
    ),
    (
        "Cloud Workstations",
        &[("GOOGLE_CLOUD_WORKSTATIONS", "true")],
        &[],
        &[
            "platform=cloud-workstations (platform)",
            "id=kept (asserted)",
            "name=box (asserted)",
        ],
    ),
    (
        "a pod",
        &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")],
        &[("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "team-a")],
        &[
            "platform=kubernetes (platform)",
            "id=kept (asserted)",
            "name=team-a/box (asserted)",
        ],
    ),
    (
        "GitHub Actions, for a pull request",
        &[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_RUN_ID", "1658821493"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_JOB", "test"),
            ("GITHUB_WORKFLOW", "CI"),
            ("GITHUB_REPOSITORY", "acme/app"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REF", "refs/pull/7/merge"),
            ("GITHUB_REF_NAME", "7/merge"),
            ("GITHUB_HEAD_REF", "feature"),
            ("GITHUB_ACTOR", "octocat"),
            ("GITHUB_ACTOR_ID", "583231"),
            ("GITHUB_WORKSPACE", "/home/runner/work/app/app"),
        ],
        &[],
        &[
            "platform=github-actions (platform)",
            "id=1658821493/test (platform)",
            "name=test (platform)",
            "url=https://github.com/acme/app/actions/runs/1658821493/attempts/2 (platform)",
            "instance_id=2 (platform)",
            "repository=https://github.com/acme/app (platform)",
            "reference=feature (platform)",
            "owner=583231 (platform)",
            "checkout=/home/runner/work/app/app",
        ],
    ),
    (
        "GitLab CI, on a cluster",
        &[
            ("GITLAB_CI", "true"),
            ("CI_JOB_ID", "77"),
            ("CI_JOB_NAME", "test"),
            ("CI_JOB_URL", "https://gitlab.example.com/acme/app/-/jobs/77"),
            ("CI_PROJECT_URL", "https://gitlab.example.com/acme/app"),
            (
                "CI_REPOSITORY_URL",
                "https://gitlab-ci-token:canary@gitlab.example.com/acme/app.git",
            ),
            ("CI_PROJECT_DIR", "/builds/acme/app"),
            ("CI_COMMIT_REF_NAME", "main"),
            ("GITLAB_USER_ID", "42"),
            ("GITLAB_USER_EMAIL", "whoever@example.com"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ],
        &[],
        &[
            "platform=gitlab-ci (platform)",
            "id=77 (platform)",
            "name=test (platform)",
            "url=https://gitlab.example.com/acme/app/-/jobs/77 (platform)",
            "repository=https://gitlab.example.com/acme/app (platform)",
            "reference=main (platform)",
            "owner=42 (platform)",
            "checkout=/builds/acme/app",
        ],
    ),
    (
        "Azure Pipelines",
        &[
            ("TF_BUILD", "True"),
            ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/acme/"),
            ("SYSTEM_TEAMPROJECT", "Big App"),
            ("SYSTEM_JOBID", "12f1170f"),
            ("SYSTEM_JOBDISPLAYNAME", "Test"),
            ("SYSTEM_JOBATTEMPT", "1"),
            ("BUILD_BUILDID", "9"),
            (
                "BUILD_REPOSITORY_URI",
                "https://acme@dev.azure.com/acme/Big%20App/_git/app",
            ),
            ("BUILD_SOURCEBRANCH", "refs/heads/feature/x"),
            ("BUILD_REQUESTEDFORID", "u-guid"),
            ("BUILD_REQUESTEDFOREMAIL", "whoever@example.com"),
            ("BUILD_SOURCESDIRECTORY", "/home/vsts/work/1/s"),
        ],
        &[],
        &[
            "platform=azure-devops (platform)",
            "id=9/12f1170f (platform)",
            "name=Test (platform)",
            "url=https://dev.azure.com/acme/Big%20App/_build/results?buildId=9 (platform)",
            "instance_id=1 (platform)",
            "repository=https://dev.azure.com/acme/Big%20App/_git/app (platform)",
            "reference=feature/x (platform)",
            "owner=u-guid (platform)",
            "checkout=/home/vsts/work/1/s",
        ],
    ),
    (
        "a variable that other tools set to be taken for a build",
        &[("TF_BUILD", "True")],
        &[],
        &["platform=local (asserted)", "id=kept (asserted)", "name=box (asserted)"],
    ),
    (
        "a plain machine with a GitHub token lying about",
        &[("GITHUB_TOKEN", "ghp_canary"), ("CI", "true"), ("USER", "dev")],
        &[],
        &["platform=local (asserted)", "id=kept (asserted)", "name=box (asserted)"],
    ),
    (
        "an image being built on a plain machine",
        &[],
        &[("/proc/sys/kernel/hostname", "buildkitsandbox\n")],
        &[
            "platform=local (asserted)",
            "id=kept? (asserted)",
            "name=buildkitsandbox (asserted)",
            "prebuild",
        ],
    ),
    (
        "a template that says so itself",
        &[("GITPOD_ENVIRONMENT_ID", "0190-env"), ("TAGALONG_PREBUILD", "1")],
        &[],
        &["platform=ona (platform)", "id=0190-env (platform)", "prebuild"],
    ),
    (
        "a template that says so in another word",
        &[("GITPOD_ENVIRONMENT_ID", "0190-env"), ("TAGALONG_PREBUILD", "Yes ")],
        &[],
        &["platform=ona (platform)", "id=0190-env (platform)", "prebuild"],
    ),
];

#[test]
fn each_platform_is_found_by_what_it_documents_and_nothing_is_said_that_it_does_not_say() {
    for (name, variables, files, expected) in TABLE {
        let mut found = found(&env(variables), &Machine::new(files));
        // A random id of a prebuild is not kept, and cannot be foretold.
        for (line, expected) in found.iter_mut().zip(*expected) {
            if *expected == "id=kept? (asserted)" && line.starts_with("id=") && line.ends_with("(asserted)") {
                *line = (*expected).to_owned();
            }
        }
        assert_eq!(found, *expected, "{name}");
    }
}

#[test]
fn inside_another_place_the_more_specific_one_is_named() {
    let cluster = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let container = ("REMOTE_CONTAINERS", "true");
    let ours = ("TAGALONG_DEVCONTAINER_ID", "1d2f");
    let actions = ("GITHUB_ACTIONS", "true");
    let nested: &[Nested] = &[
        (
            "a development container in a codespace",
            &[("CODESPACES", "true"), container, ours],
            Platform::Codespaces,
        ),
        (
            "Ona on a cluster, in a development container",
            &[("GITPOD_ENVIRONMENT_ID", "e"), container, cluster],
            Platform::Ona,
        ),
        (
            "Ona with what is left of Classic",
            &[("GITPOD_ENVIRONMENT_ID", "e"), ("GITPOD_WORKSPACE_ID", "w")],
            Platform::Ona,
        ),
        (
            "Gitpod Classic on a cluster",
            &[("GITPOD_WORKSPACE_ID", "w"), cluster],
            Platform::Gitpod,
        ),
        (
            "a development container that Coder made, on a cluster",
            &[("CODER", "true"), container, cluster],
            Platform::Coder,
        ),
        (
            "DevPod on a cluster",
            &[("DEVPOD", "true"), container, cluster],
            Platform::Devpod,
        ),
        (
            "a development container on a cluster",
            &[container, cluster],
            Platform::Devcontainer,
        ),
        (
            "a job that runs in a development container on a cluster",
            &[actions, ours, container, cluster],
            Platform::GithubActions,
        ),
        (
            "a job that tries DevPod out",
            &[actions, ("DEVPOD", "true"), container],
            Platform::GithubActions,
        ),
    ];
    for (name, variables, expected) in nested {
        let machine = Machine::new(&[]);
        assert_eq!(
            platform(&env(variables), &machine.files(), &Config::default()),
            *expected,
            "{name}"
        );
    }
}

#[test]
fn every_platform_has_a_name_by_which_it_can_be_set() {
    for platform in Platform::ALL {
        assert_eq!(Platform::named(platform.as_str()), Some(platform));
        assert_eq!(
            serde_json::to_value(platform).unwrap(),
            platform.as_str(),
            "one spelling everywhere"
        );
    }
}

#[test]
fn a_workspace_is_for_development_and_a_job_says_its_run_and_its_environment() {
    let machine = Machine::new(&[]);
    let background = |variables: &[(&str, &str)]| {
        let state = tempfile::tempdir().unwrap();
        let workspace = detect(&env(variables), &machine.files(), &Config::default(), state.path()).unwrap();
        workspace.background()
    };
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    assert_eq!(
        background(&[]),
        pairs(&[("deployment.environment.name", "development")])
    );
    let job = [
        ("GITLAB_CI", "true"),
        ("CI_JOB_ID", "77"),
        ("CI_JOB_NAME", "deploy"),
        ("CI_PIPELINE_ID", "7"),
        ("CI_PIPELINE_URL", "https://gitlab.com/acme/app/-/pipelines/7"),
        ("CI_PROJECT_URL", "https://gitlab.com/acme/app"),
        ("CI_COMMIT_REF_NAME", "v1.2.0"),
        ("CI_COMMIT_TAG", "v1.2.0"),
        ("CI_COMMIT_SHA", "abc"),
        ("CI_RUNNER_ID", "5"),
        ("CI_ENVIRONMENT_NAME", "production"),
    ];
    assert_eq!(
        background(&job),
        pairs(&[
            ("vcs.repository.url.full", "https://gitlab.com/acme/app"),
            ("vcs.repository.name", "app"),
            ("vcs.owner.name", "acme"),
            ("vcs.provider.name", "gitlab"),
            ("cicd.pipeline.run.id", "7"),
            (
                "cicd.pipeline.run.url.full",
                "https://gitlab.com/acme/app/-/pipelines/7"
            ),
            ("cicd.pipeline.task.name", "deploy"),
            ("cicd.pipeline.task.run.id", "77"),
            ("cicd.worker.id", "5"),
            ("vcs.ref.head.name", "v1.2.0"),
            ("vcs.ref.head.revision", "abc"),
            ("vcs.ref.type", "tag"),
            ("service.version", "v1.2.0"),
            ("deployment.environment.name", "production"),
        ])
    );
    let without = background(&[("GITHUB_ACTIONS", "true"), ("GITHUB_SHA", "abc")]);
    assert_eq!(
        without,
        pairs(&[("vcs.ref.head.revision", "abc"), ("service.version", "abc")]),
        "what a job is for is not guessed"
    );
}
