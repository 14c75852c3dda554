//! Files as people write them: what comes in stays in, what is ours comes out again, and what is not understood is left.

use super::*;
use clap::ValueEnum;
use proptest::prelude::*;

/// A repository with these files.
fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn apply(plan: &Plan) {
    for edit in &plan.edits {
        match &edit.after {
            Some(text) => {
                std::fs::create_dir_all(edit.path.parent().unwrap()).unwrap();
                std::fs::write(&edit.path, text).unwrap();
            }
            None if edit.before.is_some() => std::fs::remove_file(&edit.path).unwrap(),
            None => {}
        }
    }
}

fn changes(plan: &Plan) -> usize {
    plan.edits.iter().filter(|edit| edit.before != edit.after).count()
}

/// Puts it in, again, and takes it out; gives what it was in between.
#[track_caller]
fn there_and_back(target: Target, name: &str, text: Option<&str>) -> String {
    let files: Vec<(&str, &str)> = text.iter().map(|text| (name, *text)).collect();
    let dir = repository(&files);
    let path = dir.path().join(name);
    let file = matches!(target, Target::GithubActions | Target::Shell).then(|| path.clone());
    let run = |action| plan(target, action, dir.path(), file.as_deref()).unwrap();
    let first = run(Action::Add);
    assert!(changes(&first) > 0, "it is added");
    apply(&first);
    let between = std::fs::read_to_string(&path).unwrap();
    assert_eq!(changes(&run(Action::Add)), 0, "twice is once:\n{between}");
    apply(&run(Action::Remove));
    assert_eq!(
        std::fs::read_to_string(&path).ok().as_deref(),
        text,
        "what was there is there again, after\n{between}"
    );
    assert_eq!(changes(&run(Action::Remove)), 0);
    between
}

#[track_caller]
fn refused(target: Target, name: &str, text: &str) -> Error {
    let dir = repository(&[(name, text)]);
    let file = dir.path().join(name);
    plan(target, Action::Add, dir.path(), Some(&file)).expect_err("it is refused")
}

#[test]
fn a_repository_without_a_file_gets_one_and_loses_it_again() {
    let text = there_and_back(Target::Gitpod, ".gitpod.yml", None);
    insta::assert_snapshot!(text, @r"
    # >>> tagalong (new)
    tasks:
      - name: tagalong
        init: TAGALONG_VERSION=0.1.0 sh gitpod/install.sh || true
        command: . gitpod/start.sh || true
    # <<< tagalong
    # >>> tagalong
    ports:
      - name: tagalong
        port: 4317-4318
        onOpen: ignore
        visibility: private
    # <<< tagalong
    ");
    there_and_back(Target::Ona, ".ona/automations.yaml", None);
    there_and_back(Target::Devcontainer, ".devcontainer/devcontainer.json", None);
    there_and_back(Target::Codespaces, ".devcontainer/devcontainer.json", None);
    there_and_back(Target::Shell, ".bashrc", None);
    let fish = there_and_back(Target::Shell, ".config/fish/config.fish", None);
    assert!(fish.contains("up --env fish"), "{fish}");
    there_and_back(Target::Systemd, ".config/systemd/user/tagalong.service", None);
}

const GITPOD: &str = "\
# How we work
image:
  file: .gitpod.Dockerfile

tasks:
  # the database first
  - name: db
    before: |
      # not a comment
      docker compose up -d

  - init: npm ci   # quick
    command: npm run dev

# what is open
ports:
- port: 3000
  onOpen: open-preview
";

#[test]
fn a_gitpod_file_keeps_its_comments_blocks_and_order() {
    let text = there_and_back(Target::Gitpod, ".gitpod.yml", Some(GITPOD));
    insta::assert_snapshot!(text, @r"
    # How we work
    image:
      file: .gitpod.Dockerfile

    tasks:
      # the database first
      - name: db
        before: |
          # not a comment
          docker compose up -d

      - init: npm ci   # quick
        command: npm run dev
      # >>> tagalong
      - name: tagalong
        init: TAGALONG_VERSION=0.1.0 sh gitpod/install.sh || true
        command: . gitpod/start.sh || true
      # <<< tagalong

    # what is open
    ports:
    - port: 3000
      onOpen: open-preview
    # >>> tagalong
    - name: tagalong
      port: 4317-4318
      onOpen: ignore
      visibility: private
    # <<< tagalong
    ");
}

#[test]
fn endings_of_lines_and_of_files_stay_as_they_are() {
    there_and_back(Target::Gitpod, ".gitpod.yml", Some(&GITPOD.replace('\n', "\r\n")));
    there_and_back(Target::Gitpod, ".gitpod.yml", Some(GITPOD.trim_end()));
    there_and_back(Target::Gitpod, ".gitpod.yml", Some("image: x"));
    there_and_back(Target::Gitpod, ".gitpod.yml", Some("tasks:\n"));
    there_and_back(Target::Gitpod, ".gitpod.yml", Some("# nothing yet\n"));
    there_and_back(Target::Gitpod, ".gitpod.yml", Some(""));
    there_and_back(Target::Shell, ".zshrc", Some("setopt autocd"));
    there_and_back(Target::Shell, ".profile", Some("export A=1\r\n"));
}

#[test]
fn a_new_version_brings_what_is_there_up_to_date() {
    let dir = repository(&[(".gitpod.yml", GITPOD)]);
    let run = |action| plan(Target::Gitpod, action, dir.path(), None).unwrap();
    apply(&run(Action::Add));
    let path = dir.path().join(".gitpod.yml");
    let current = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        current.replace("TAGALONG_VERSION=0.1.0", "TAGALONG_VERSION=0.0.9"),
    )
    .unwrap();
    apply(&run(Action::Add));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), current);
}

#[test]
fn what_somebody_has_written_by_hand_is_not_written_twice() {
    let by_hand = "tasks:\n  - name: telemetry\n    command: . gitpod/start.sh || true\n";
    let dir = repository(&[(".gitpod.yml", by_hand)]);
    let plan = plan(Target::Gitpod, Action::Add, dir.path(), None).unwrap();
    assert_eq!(changes(&plan), 0);
}

#[test]
fn a_script_that_somebody_has_changed_is_neither_replaced_nor_deleted() {
    let dir = repository(&[("gitpod/start.sh", "mine"), (".gitpod.yml", "image: x\n")]);
    for action in [Action::Add, Action::Remove] {
        apply(&plan(Target::Gitpod, action, dir.path(), None).unwrap());
        assert_eq!(
            std::fs::read_to_string(dir.path().join("gitpod/start.sh")).unwrap(),
            "mine"
        );
    }
    assert!(!dir.path().join("gitpod/install.sh").exists());
}

#[test]
fn what_cannot_be_parsed_or_extended_safely_is_left_as_it_is_with_what_to_add_by_hand() {
    let rows = [
        (Target::Gitpod, ".gitpod.yml", "tasks: [\n", "cannot be parsed"),
        (
            Target::Gitpod,
            ".gitpod.yml",
            "tasks: [{init: make}]\n",
            "tasks is written in a way",
        ),
        (Target::Gitpod, ".gitpod.yml", "a: 1\na: 2\n", "cannot be parsed"),
        (Target::Gitpod, ".gitpod.yml", "{image: x}\n", "would change"),
        (
            Target::Gitpod,
            ".gitpod.yml",
            "image: |\n  x\n  # >>> tagalong\n  y\n  # <<< tagalong\n",
            "a value that holds our marks",
        ),
        (Target::Shell, ".bashrc", "export A=1\\\n", "a last line that goes on"),
        (
            Target::Ona,
            "automations.yaml",
            "services: later\n",
            "services is written in a way",
        ),
        (
            Target::Gitlab,
            ".gitlab-ci.yml",
            "spec:\n  inputs: {}\n---\ntest:\n  script: make\n",
            "several documents",
        ),
        (
            Target::Gitlab,
            ".gitlab-ci.yml",
            "before_script: make\ntest:\n  script: x\n",
            "before_script is written",
        ),
        (
            Target::AzureDevops,
            "azure-pipelines.yml",
            "extends:\n  template: x.yml\n",
            "without any steps",
        ),
        (
            Target::GithubActions,
            "ci.yml",
            "jobs:\n  call:\n    uses: ./x.yml\n",
            "without any steps",
        ),
        (
            Target::Devcontainer,
            "devcontainer.json",
            "{\"image\": ",
            "cannot be parsed",
        ),
        (Target::Devcontainer, "devcontainer.json", "[]", "no object"),
        (
            Target::Devcontainer,
            "devcontainer.json",
            "{\"a\": 1, \"a\": 2}",
            "there twice",
        ),
        (
            Target::Devcontainer,
            "devcontainer.json",
            "{\"portsAttributes\": []}",
            "portsAttributes is written",
        ),
    ];
    for (target, name, text, expected) in rows {
        let error = refused(target, name, text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
        let Error::Refused { by_hand, .. } = error else {
            panic!("{text}: {error}");
        };
        assert!(by_hand.contains("tagalong"), "{by_hand}");
        assert!(!by_hand.contains("image"), "that is theirs: {by_hand}");
    }
}

/// A task may write a profile, and that may have our block in it.
#[test]
fn marks_inside_of_a_value_are_somebodys_text_and_stay() {
    let text = "tasks:\n  - init: |\n      cat >~/.bashrc <<'E'\n      # >>> tagalong\n      # <<< tagalong\n      E\n";
    let dir = repository(&[(".gitpod.yml", text)]);
    assert!(plan(Target::Gitpod, Action::Remove, dir.path(), None).is_err());
}

#[test]
fn an_anchor_is_not_extended_behind_the_back_of_those_who_repeat_it() {
    let text = "jobs:\n  a:\n    steps: &steps\n      - run: make\n  b:\n    steps: *steps\n";
    assert!(
        refused(Target::GithubActions, "ci.yml", text)
            .to_string()
            .contains("left as it is")
    );
}

#[test]
fn a_service_joins_onas_others() {
    let others = "services:\n    # ours\n    db:\n        commands:\n            start: postgres\ntasks: {}\n";
    let text = there_and_back(Target::Ona, ".ona/automations.yaml", Some(others));
    insta::assert_snapshot!(text, @r"
    services:
        # >>> tagalong
        tagalong:
          name: tagalong
          description: Sends this environment's telemetry, tagged with who and where
          triggeredBy:
            - postDevcontainerStart
            - postEnvironmentStart
          commands:
            start: exec tagalong up --foreground
        # <<< tagalong
        # ours
        db:
            commands:
                start: postgres
    tasks: {}
    ");
    let dir = repository(&[(".gitpod/automations.yaml", others)]);
    let plan = plan(Target::Ona, Action::Add, dir.path(), None).unwrap();
    assert!(
        plan.edits[0].path.ends_with(".gitpod/automations.yaml"),
        "the older name is still in use"
    );
}

#[test]
fn gitlab_jobs_start_it_first_and_drain_it_last_wherever_the_defaults_are_kept() {
    let job = "test:\n  script:\n    - make\n";
    let text = there_and_back(Target::Gitlab, ".gitlab-ci.yml", Some(job));
    insta::assert_snapshot!(text, @r"
    test:
      script:
        - make
    # >>> tagalong
    default:
      before_script:
        - tagalong up || true
      after_script:
        - tagalong down || true
    # <<< tagalong
    ");
    let old = "before_script:\n  - !reference [.setup, script]\n  - echo hello\n";
    let text = there_and_back(Target::Gitlab, ".gitlab-ci.yml", Some(&format!("{old}{job}")));
    assert!(
        text.starts_with("before_script:\n  # >>> tagalong\n  - tagalong up"),
        "{text}"
    );
    let scripts = "after_script:\n  - |\n    # the last words\n    echo bye\n\n  - >-\n\n    echo\n    again\n\n";
    let text = there_and_back(Target::Gitlab, ".gitlab-ci.yml", Some(&format!("{scripts}{job}")));
    assert!(
        text.contains("    again\n  # >>> tagalong\n  - tagalong down"),
        "{text}"
    );
    let half = "default:\n  image: alpine\n  before_script:\n    - apk add make\n";
    let text = there_and_back(Target::Gitlab, ".gitlab-ci.yml", Some(&format!("{half}{job}")));
    assert!(text.contains("after_script:\n    - tagalong down"), "{text}");
}

#[test]
fn every_job_of_a_workflow_starts_it_first_and_drains_it_last() {
    let workflow = "\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: |
          make

          make test
  lint:
    runs-on: ubuntu-latest
    steps:
    - run: make lint
";
    let text = there_and_back(Target::GithubActions, ".github/workflows/ci.yml", Some(workflow));
    insta::assert_snapshot!(text, @r"
    on: push
    jobs:
      test:
        runs-on: ubuntu-latest
        steps:
          # >>> tagalong
          - name: tagalong
            run: tagalong up || true
          # <<< tagalong
          - uses: actions/checkout@v4
          - run: |
              make

              make test
          # >>> tagalong
          - name: tagalong, send the rest
            if: always()
            run: tagalong down || true
          # <<< tagalong
      lint:
        runs-on: ubuntu-latest
        steps:
        # >>> tagalong
        - name: tagalong
          run: tagalong up || true
        # <<< tagalong
        - run: make lint
        # >>> tagalong
        - name: tagalong, send the rest
          if: always()
          run: tagalong down || true
        # <<< tagalong
    ");
}

#[test]
fn of_several_workflows_one_has_to_be_named() {
    let job = "jobs:\n  a:\n    steps:\n      - run: make\n";
    let dir = repository(&[(".github/workflows/a.yml", job), (".github/workflows/b.yaml", job)]);
    let error = plan(Target::GithubActions, Action::Add, dir.path(), None).unwrap_err();
    assert!(matches!(error, Error::Several(paths) if paths.len() == 2));
    let none = repository(&[]);
    let error = plan(Target::GithubActions, Action::Add, none.path(), None).unwrap_err();
    assert!(matches!(error, Error::Absent(_)));
}

#[test]
fn what_is_in_several_files_is_taken_out_of_all_of_them() {
    let job = "jobs:\n  a:\n    steps:\n      - run: make\n";
    let container = "{\n  \"image\": \"x\"\n}\n";
    for (target, text, names) in [
        (
            Target::GithubActions,
            job,
            [
                ".github/workflows/a.yml",
                ".github/workflows/b.yaml",
                ".github/workflows/c.yml",
            ],
        ),
        (
            Target::Devcontainer,
            container,
            [
                ".devcontainer/a/devcontainer.json",
                ".devcontainer/b/devcontainer.json",
                ".devcontainer/c/devcontainer.json",
            ],
        ),
    ] {
        let dir = repository(&names.map(|name| (name, text)));
        let run = |action, file: Option<&str>| plan(target, action, dir.path(), file.map(Path::new)).unwrap();
        for name in &names[..2] {
            apply(&run(Action::Add, Some(name)));
        }
        let removed = run(Action::Remove, None);
        assert_eq!(changes(&removed), 2, "{target:?}");
        apply(&removed);
        for name in names {
            assert_eq!(std::fs::read_to_string(dir.path().join(name)).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn a_file_without_anything_of_ours_keeps_nothing_from_being_taken_out_of_others() {
    let [ours, broken] = ["a", "b"].map(|name| format!(".devcontainer/{name}/devcontainer.json"));
    let dir = repository(&[(&ours, "{\"image\": \"x\"}\n"), (&broken, "{{ template }}\n")]);
    let run = |action, file: Option<&str>| plan(Target::Devcontainer, action, dir.path(), file.map(Path::new));
    apply(&run(Action::Add, Some(&ours)).expect("a plan"));
    apply(&run(Action::Remove, None).expect("a plan"));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("readable");
    assert_eq!(
        [read(&ours), read(&broken)],
        ["{\"image\": \"x\"}\n", "{{ template }}\n"]
    );
}

#[test]
fn azure_pipelines_are_extended_in_all_their_shapes() {
    let shapes = [
        "trigger:\n- main\nsteps:\n- script: make\n",
        "jobs:\n- job: a\n  steps:\n  - script: make\n- job: b\n  steps:\n  - script: test\n",
        "stages:\n- stage: one\n  jobs:\n  - job: a\n    steps:\n    - script: make\n",
        "jobs:\n- deployment: a\n  strategy:\n    runOnce:\n      deploy:\n        steps:\n        - script: make\n",
        "stages:\n- jobs:\n  - deployment: a\n    strategy:\n      canary:\n        increments: [10]\n        deploy:\n          steps:\n          - script: make\n",
    ];
    for shape in shapes {
        let text = there_and_back(Target::AzureDevops, "azure-pipelines.yml", Some(shape));
        let jobs = shape.matches("steps:").count();
        assert_eq!(text.matches("script: tagalong up").count(), jobs, "{text}");
        assert_eq!(text.matches("condition: always()").count(), jobs, "{text}");
    }
}

const DEVCONTAINER: &str = r#"// For format details, see https://containers.dev
{
    // what it is built from
    "image": "debian", // stable
    "portsAttributes": {
        "3000": { "label": "web" }
    },
    "postStartCommand": {
        "web": "npm start"
    }, /* the rest */
    "customizations": { "vscode": { "extensions": ["a.b",], } },
}
"#;

#[test]
fn a_devcontainer_keeps_its_comments_and_trailing_commas() {
    let text = there_and_back(
        Target::Devcontainer,
        ".devcontainer/devcontainer.json",
        Some(DEVCONTAINER),
    );
    insta::assert_snapshot!(text, @r#"
    // For format details, see https://containers.dev
    {
        "containerEnv": {
            "TAGALONG_DEVCONTAINER_ID": "${devcontainerId}"
        },
        // what it is built from
        "image": "debian", // stable
        "portsAttributes": {
            "4317": { "label": "tagalong", "onAutoForward": "ignore" },
            "4318": { "label": "tagalong", "onAutoForward": "ignore" },
            "3000": { "label": "web" }
        },
        "postStartCommand": {
            "tagalong": "tagalong up || true",
            "web": "npm start"
        }, /* the rest */
        "customizations": { "vscode": { "extensions": ["a.b",], } },
    }
    "#);
}

#[test]
fn a_command_that_is_there_runs_on_beside_ours() {
    for theirs in [r#""npm start""#, r#"["npm", "start"] "#.trim_end()] {
        let text = format!("{{\n  \"postStartCommand\": {theirs}\n}}\n");
        let between = there_and_back(Target::Codespaces, ".devcontainer/devcontainer.json", Some(&text));
        let value = jsonc::parse(&between).unwrap();
        assert_eq!(value["postStartCommand"]["tagalong"], "tagalong up || true");
        assert_eq!(
            value["postStartCommand"]["before-tagalong"],
            jsonc::parse(theirs).unwrap()
        );
        assert_eq!(
            value["containerEnv"],
            serde_json::Value::Null,
            "a codespace has a name already"
        );
    }
}

#[test]
fn a_devcontainer_in_whatever_layout_comes_back_as_it_was() {
    let layouts = [
        "{}",
        "{ }\n",
        "{\n}\n",
        "{ // nothing yet\n}",
        "\u{feff}{\n  \"image\": \"x\"\n}\n",
        "{\"image\": \"x\"}",
        "{\"image\": \"x\",}",
        "{ \"image\": \"x\", \"portsAttributes\": {} }",
        "{\r\n\t\"image\": \"x\"\r\n}\r\n",
        "{ \"a\": 1,\n  \"image\": \"x\" // here\n}",
        "{ // first\n  \"image\": \"x\", // here\n}",
        "{\n  \"containerEnv\": {},\n  \"postStartCommand\": {}\n}",
        "{\n  \"containerEnv\": {\n  },\n  \"portsAttributes\": {\n    // none\n  }\n}",
        "{\n  \"portsAttributes\": {\"3000\": {}, // web\n    \"4000\": {}\n  }\n}",
    ];
    for layout in layouts {
        there_and_back(Target::Devcontainer, ".devcontainer.json", Some(layout));
    }
}

#[test]
fn what_somebody_set_for_one_of_our_ports_stays() {
    let text = "{\n  \"portsAttributes\": {\n    \"4317\": { \"label\": \"my collector\" }\n  }\n}\n";
    let between = there_and_back(Target::Codespaces, ".devcontainer.json", Some(text));
    let value = jsonc::parse(&between).unwrap();
    assert_eq!(value["portsAttributes"]["4317"]["label"], "my collector");
    assert_eq!(value["portsAttributes"]["4318"]["onAutoForward"], "ignore");
}

#[test]
fn an_editor_that_connects_to_this_machine_leaves_our_ports_alone() {
    const NAME: &str = ".vscode-server/data/Machine/settings.json";
    there_and_back(Target::Vscode, NAME, None);
    let text = "{\n\t// mine\n\t\"editor.fontSize\": 12,\n\t\"remote.portsAttributes\": {\n\t\t\"3000\": { \"label\": \"shop\" },\n\t},\n}\n";
    let between = jsonc::parse(&there_and_back(Target::Vscode, NAME, Some(text))).unwrap();
    let ports = &between["remote.portsAttributes"];
    assert_eq!(ports["4317"]["onAutoForward"], "ignore");
    assert_eq!(
        (&ports["4318"], &ports["3000"]["label"]),
        (&ports["4317"], &serde_json::json!("shop"))
    );

    // Another editor's, where that is; and of two files neither is written if one cannot be read.
    let code_server = ".local/share/code-server/Machine/settings.json";
    let dir = repository(&[(code_server, "{}\n")]);
    let run = |action| plan(Target::Vscode, action, dir.path(), None);
    apply(&run(Action::Add).unwrap());
    assert!(
        std::fs::read_to_string(dir.path().join(code_server))
            .unwrap()
            .contains("4317")
    );
    assert_eq!(changes(&run(Action::Add).unwrap()), 0);
    apply(&run(Action::Remove).unwrap());
    assert_eq!(std::fs::read_to_string(dir.path().join(code_server)).unwrap(), "{}\n");
    assert!(!dir.path().join(NAME).exists());
    let broken = repository(&[(code_server, "{ \"editor\": ")]);
    let refused = plan(Target::Vscode, Action::Add, broken.path(), None)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("it cannot be parsed"), "{refused}");
}

#[test]
fn a_file_with_nothing_in_it_is_filled_and_emptied_again() {
    for nothing in ["", "\n", " \r\n\t", "\u{feff}"] {
        let settings = ".vscode-server/data/Machine/settings.json";
        for (target, name) in [
            (Target::Vscode, settings),
            (Target::Devcontainer, ".devcontainer.json"),
            (Target::Codespaces, ".devcontainer.json"),
        ] {
            let between = there_and_back(target, name, Some(nothing));
            assert!(between.contains("\"4317\": "), "{between}");
        }
    }
}

#[test]
fn a_login_bash_is_reached_by_the_file_that_it_reads_and_no_file_is_hidden_from_it() {
    let skeleton = "# ~/.profile\nif [ -f \"$HOME/.bashrc\" ]; then\n    . \"$HOME/.bashrc\"\nfi\n";
    type Files<'a> = &'a [(&'a str, &'a str)];
    // What is there, and which file besides .bashrc is written.
    let homes: [(Files<'_>, Option<&str>); 5] = [
        (&[], Some(".profile")),
        (&[(".profile", skeleton)], None),
        (&[(".profile", "# no .bashrc here\nA=1")], Some(".profile")),
        (&[(".profile", skeleton), (".bash_login", "A=1\n")], Some(".bash_login")),
        (&[(".bash_profile", ". ~/.bashrc\n"), (".bash_login", "A=1\n")], None),
    ];
    for (files, written) in homes {
        let dir = repository(files);
        let run = |action| plan(Target::Shell, action, dir.path(), Some(Path::new(".bashrc"))).unwrap();
        let added = run(Action::Add);
        let names: Vec<_> = added.edits.iter().filter_map(|edit| edit.path.file_name()).collect();
        let expected: Vec<&str> = [".bashrc"].into_iter().chain(written).collect();
        assert_eq!(names, expected);
        apply(&added);
        assert_eq!((changes(&added), changes(&run(Action::Add))), (expected.len(), 0));
        apply(&run(Action::Remove));
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, files.len());
        for (name, text) in files {
            assert_eq!(std::fs::read_to_string(dir.path().join(name)).unwrap(), *text);
        }
    }
}

#[test]
fn a_file_of_a_shell_that_is_not_written_for_gets_no_line_of_sh() {
    for (shell, names) in [
        ("csh", &[".cshrc", ".tcshrc", ".login"][..]),
        ("nu", &[".config/nushell/config.nu"]),
        ("elvish", &[".config/elvish/rc.elv"]),
        ("xonsh", &[".xonshrc", ".config/xonsh/rc.xsh"]),
    ] {
        assert_eq!(profile(shell, |_| None), Path::new(names[0]));
        for name in names {
            let dir = repository(&[(name, "# mine\n")]);
            let run = |action| plan(Target::Shell, action, dir.path(), Some(Path::new(name)));
            let refused = run(Action::Add).expect_err("it is refused");
            let Error::Foreign { shell: of, by_hand, .. } = &refused else {
                panic!("{refused}")
            };
            assert_eq!(*of, shell);
            // Where there is no tagalong, a shell says nothing and reads on.
            assert!(by_hand.is_empty() || by_hand.lines().any(|line| line.starts_with("if ")));
            assert_eq!(run(Action::Remove).map(|plan| changes(&plan)), Ok(0));
        }
    }
}

#[test]
fn a_profile_is_where_its_shell_looks_for_it() {
    let profile = |shell, name: &str, value: &str| {
        profile(shell, |asked| (asked == name).then(|| PathBuf::from(value)))
            .display()
            .to_string()
    };
    assert_eq!(
        profile("/bin/zsh", "ZDOTDIR", "/home/ada/.zsh"),
        "/home/ada/.zsh/.zshrc"
    );
    assert_eq!(
        profile("/bin/zsh", "ZDOTDIR", ".zsh"),
        ".zshrc",
        "another one in every directory"
    );
    assert_eq!(profile("fish", "XDG_CONFIG_HOME", "/kept"), "/kept/fish/config.fish");
    assert_eq!(profile("fish", "ZDOTDIR", "/kept"), ".config/fish/config.fish");
    assert_eq!(profile("/bin/bash", "ZDOTDIR", "/kept"), ".bashrc");
    assert_eq!(profile("/bin/dash", "ZDOTDIR", "/kept"), ".profile");
}

#[test]
fn what_is_not_there_need_not_be_taken_out() {
    let dir = repository(&[]);
    for target in Target::value_variants() {
        let plan = plan(*target, Action::Remove, dir.path(), None);
        assert_eq!(plan.map(|plan| changes(&plan)), Ok(0), "{target:?}");
    }
}

#[test]
fn a_coder_template_gets_a_file_of_its_own_that_names_its_agent() {
    let main = "data \"coder_workspace\" \"me\" {}\ndata \"coder_workspace_owner\" \"me\" {}\n\
                resource \"coder_agent\" \"dev\" {\n  os = \"linux\"\n}\n";
    let dir = repository(&[("main.tf", main)]);
    let run = |action| plan(Target::Coder, action, dir.path(), None).unwrap();
    apply(&run(Action::Add));
    let text = std::fs::read_to_string(dir.path().join("tagalong.tf")).unwrap();
    assert!(text.contains("agent_id     = coder_agent.dev.id") && text.contains("data.coder_workspace.me.is_prebuild"));
    assert!(text.contains("script       = \"tagalong up || true; tagalong init vscode >/dev/null 2>&1 || true\"\n"));
    assert_eq!(changes(&run(Action::Add)), 0);
    apply(&run(Action::Remove));
    assert!(!dir.path().join("tagalong.tf").exists());

    let two = repository(&[("main.tf", &format!("{main}resource \"coder_agent\" \"gpu\" {{\n}}\n"))]);
    assert!(
        plan(Target::Coder, Action::Add, two.path(), None)
            .unwrap_err()
            .to_string()
            .contains("has 2 of")
    );
    let theirs = repository(&[("main.tf", main), ("tagalong.tf", "# mine\n")]);
    for action in [Action::Add, Action::Remove] {
        assert_eq!(changes(&plan(Target::Coder, action, theirs.path(), None).unwrap()), 0);
    }
}

/// One entry of a document, in one of the ways in which people write them.
fn yaml_entry() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-f]{1,4}".prop_map(|key| format!("x{key}: plain # said\n")),
        "[a-f]{1,4}".prop_map(|key| format!("\n# about {key}\ny{key}: |\n  # text\n\n  more\n")),
        "[a-f]{1,4}".prop_map(|key| format!("z{key}:\n- one\n- - two\n  - three\n")),
        "[a-f]{1,4}".prop_map(|key| format!("w{key}: {{a: [1, 2], b: 'it''s'}}\n")),
        Just("tasks:\n  - init: make\n    # within\n    command: |\n      run\n\n  - command: >-\n      fold\n      ed\n".to_owned()),
        Just("tasks:\n- init: make\n\n# after\n".to_owned()),
        Just("tasks:\n".to_owned()),
        Just("ports:\n  - port: 3000\n  # the last\n".to_owned()),
        Just("ports: # open\n\n  -   port: 3000\n      onOpen: open\n".to_owned()),
    ]
}

fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("\"a // b\"".to_owned()),
        Just("null".to_owned()),
        Just("[1, /* two */ 2,]".to_owned()),
        Just("{}".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop::collection::vec(inner, 0..3).prop_map(|values| {
            let entries: Vec<String> = values
                .iter()
                .enumerate()
                .map(|(number, value)| format!("\"k{number}\": {value}"))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        })
    })
}

/// A container's file: properties in some order, some of them those that are extended, in one of several layouts.
fn devcontainer() -> impl Strategy<Value = String> {
    let names = [
        "image",
        "containerEnv",
        "portsAttributes",
        "postStartCommand",
        "remoteUser",
    ];
    let properties = prop::sample::subsequence(names.to_vec(), 0..=names.len())
        .prop_shuffle()
        .prop_flat_map(|names| {
            let values: Vec<_> = names
                .iter()
                .map(|name| match *name {
                    "containerEnv" | "portsAttributes" => prop_oneof![
                        Just("{}".to_owned()),
                        Just("{ \"A\": \"b\" }".to_owned()),
                        Just("{\n      // why\n      \"3000\": {}\n    }".to_owned()),
                        Just("{ // why\n      \"3000\": {}\n    }".to_owned()),
                    ]
                    .boxed(),
                    _ => json_value().boxed(),
                })
                .collect();
            (Just(names), values)
        });
    let layout = prop::sample::select(vec![
        ("\n  ", ""),
        ("\n\t", ","),
        (" ", ""),
        (" // note\n    ", ""),
        ("\r\n  ", ","),
    ]);
    (properties, layout, prop::bool::ANY).prop_map(|((names, values), (between, last), newline)| {
        let entries: Vec<String> = names
            .iter()
            .zip(values)
            .map(|(name, value)| format!("{between}\"{name}\": {value}"))
            .collect();
        let last = if entries.is_empty() { "" } else { last };
        format!(
            "// head\n{{{}{last}\n}}{}",
            entries.join(","),
            if newline { "\n" } else { "" }
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_a_gitpod_file_looks_like_it_comes_back_byte_for_byte_or_is_refused(
        entries in prop::collection::vec(yaml_entry(), 0..6), ends in prop::bool::ANY
    ) {
        let mut text = entries.concat();
        if ends {
            text = text.trim_end().to_owned();
        }
        let dir = repository(&[(".gitpod.yml", &text)]);
        let run = |action| plan(Target::Gitpod, action, dir.path(), None);
        match run(Action::Add) {
            // Two entries of one name are no document.
            Err(Error::Refused { .. }) => prop_assert!(saphyr_refuses(&text), "{text}"),
            Err(error) => prop_assert!(false, "{error}"),
            Ok(first) => {
                apply(&first);
                prop_assert_eq!(changes(&run(Action::Add).unwrap()), 0);
                apply(&run(Action::Remove).unwrap());
                prop_assert_eq!(std::fs::read_to_string(dir.path().join(".gitpod.yml")).unwrap(), text);
            }
        }
    }

    #[test]
    fn whatever_a_devcontainer_looks_like_it_keeps_its_values_and_comes_back_byte_for_byte(text in devcontainer()) {
        let before = jsonc::parse(&text).unwrap();
        let between = there_and_back(Target::Devcontainer, ".devcontainer.json", Some(&text));
        let mut after = jsonc::parse(&between).unwrap();
        for (group, value) in before.as_object().unwrap() {
            let is = after[group].take();
            match value.as_object().filter(|_| is.is_object()) {
                Some(entries) => prop_assert!(entries.iter().all(|(key, value)| is[key] == *value), "{between}"),
                None if is.is_object() => prop_assert_eq!(&is["before-tagalong"], value),
                None => prop_assert_eq!(&is, value),
            }
        }
    }

    #[test]
    fn no_text_makes_the_editors_panic_and_no_text_is_changed_by_taking_nothing_out(text in "[\\[\\]{}:,\"# a\\-\n]{0,60}") {
        let dir = repository(&[(".gitpod.yml", &text), (".devcontainer.json", &text)]);
        for target in [Target::Gitpod, Target::Devcontainer] {
            let _ = plan(target, Action::Add, dir.path(), None);
            if let Ok(plan) = plan(target, Action::Remove, dir.path(), None) {
                prop_assert_eq!(changes(&plan), 0);
            }
        }
    }
}

fn saphyr_refuses(text: &str) -> bool {
    use saphyr::LoadableYamlNode as _;
    saphyr::Yaml::load_from_str(text).is_err()
}
