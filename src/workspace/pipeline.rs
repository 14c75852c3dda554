//! What a CI system says of the run that a job is a part of, as attributes (semantic conventions, "CICD" and "VCS").
//!
//! It states what was read and works nothing out: no result, no action, no kind of task.

/// One job of one run. What the CI system does not say is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// The pipeline's or workflow's name.
    pub name: Option<String>,
    /// Of this run of it.
    pub run_id: Option<String>,
    /// Where the run is looked at.
    pub run_url: Option<String>,
    /// The job's name.
    pub task: Option<String>,
    /// Of this run of the job.
    pub task_run_id: Option<String>,
    /// Where the job's run is looked at.
    pub task_run_url: Option<String>,
    /// The runner's id.
    pub worker_id: Option<String>,
    /// The runner's name.
    pub worker_name: Option<String>,
    /// The commit that is built.
    pub revision: Option<String>,
    /// Whether it is built because of a tag.
    pub is_tag: bool,
    /// What the job deploys to.
    pub environment: Option<String>,
}

impl Pipeline {
    /// `cicd.*`, `vcs.ref.head.*`, `service.version` and `deployment.environment.name`. A tag is a version; else the
    /// commit is.
    pub(super) fn attributes(&self, reference: Option<&str>) -> Vec<(String, String)> {
        let kind = if self.is_tag { "tag" } else { "branch" };
        let version = if self.is_tag { reference } else { None }.or(self.revision.as_deref());
        let pairs = [
            ("cicd.pipeline.name", self.name.as_deref()),
            ("cicd.pipeline.run.id", self.run_id.as_deref()),
            ("cicd.pipeline.run.url.full", self.run_url.as_deref()),
            ("cicd.pipeline.task.name", self.task.as_deref()),
            ("cicd.pipeline.task.run.id", self.task_run_id.as_deref()),
            ("cicd.pipeline.task.run.url.full", self.task_run_url.as_deref()),
            ("cicd.worker.id", self.worker_id.as_deref()),
            ("cicd.worker.name", self.worker_name.as_deref()),
            ("vcs.ref.head.name", reference),
            ("vcs.ref.head.revision", self.revision.as_deref()),
            ("vcs.ref.type", reference.map(|_| kind)),
            ("service.version", version),
            ("deployment.environment.name", self.environment.as_deref()),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect()
    }
}
