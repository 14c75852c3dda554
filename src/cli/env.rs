//! `tagalong env`: the environment that makes any OpenTelemetry SDK report here.

use std::time::Duration;

use clap::ValueEnum;

use super::{
    Context,
    failure::{Failure, Kind},
};
use crate::{
    agent::{
        bridge,
        control::{Answer, Ask},
    },
    config::Siblings,
    view::status::Status,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Sh,
    Fish,
    Json,
    Dotenv,
}

/// Who is to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Reader {
    /// Programs in this workspace
    Here,
    /// Containers next to it, which do not share its loopback
    Compose,
}

pub(super) fn run(context: &Context, reader: Reader, shell: Option<Shell>) -> Result<(), Failure> {
    if reader == Reader::Compose {
        let variables = for_siblings(context)?;
        // What a compose file's `env_file` takes.
        super::print(format_args!("{}", render(&variables, shell.unwrap_or(Shell::Dotenv))));
        return Ok(());
    }
    if context.env.get("OTEL_CONFIG_FILE").is_some() {
        remark!("tagalong: OTEL_CONFIG_FILE is set: SDKs that honour it ignore these variables");
    }
    super::print(format_args!(
        "{}",
        render(&variables(context)?, shell.unwrap_or(Shell::Sh))
    ));
    Ok(())
}

/// The real ports of the running agent.
fn variables(context: &Context) -> Result<Vec<(&'static str, String)>, Failure> {
    let http = match context.ask(&Ask::Status, Duration::from_secs(2))? {
        Answer::Status(status) => status.agent.map(|agent| agent.endpoints.http),
        _ => None,
    };
    let http = http.unwrap_or_else(|| context.loaded.config.listen.http.to_string());
    Ok(towards(&http))
}

/// What a shell evaluates to have its programs report to the agent of this status.
pub(super) fn of(status: &Status, shell: Shell) -> String {
    let agent = status.agent.as_ref();
    agent.map_or_else(String::new, |agent| render(&towards(&agent.endpoints.http), shell))
}

fn towards(http: &str) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{http}")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        ("OTEL_METRICS_EXPORTER", "otlp".to_owned()),
        ("OTEL_LOGS_EXPORTER", "otlp".to_owned()),
    ]
}

/// The address that siblings reach, and the key that is asked for there.
fn for_siblings(context: &Context) -> Result<Vec<(&'static str, String)>, Failure> {
    let config = &context.loaded.config;
    if config.listen.siblings == Siblings::Off {
        let off = Failure::new(Kind::Failed, "containers next to this workspace may not send here");
        return Err(off.hint("set listen.siblings = \"auto\", run `tagalong up`, and try again"));
    }
    let (address, trouble) = match context.ask(&Ask::Status, Duration::from_secs(2))? {
        Answer::Status(status) => status.agent.map_or((None, None), |agent| {
            (agent.endpoints.siblings, agent.endpoints.siblings_trouble)
        }),
        _ => (None, None),
    };
    let address = address.ok_or_else(|| {
        let trouble = trouble.unwrap_or_else(|| "the agent has no address that containers could reach".to_owned());
        Failure::new(Kind::Failed, trouble)
            .hint("start the container engine first, then `tagalong down` and `tagalong up`")
            .hint("or set listen.siblings to an IP address of this machine")
    })?;
    let file = config.dirs.state.join(bridge::KEY_FILE);
    let key = std::fs::read_to_string(&file).map_err(|error| {
        Failure::new(Kind::Failed, format!("{} cannot be read: {error}", file.display()))
            .hint("`tagalong down` and `tagalong up` make it again")
    })?;
    let mut variables = towards(&address);
    variables.push((
        "OTEL_EXPORTER_OTLP_HEADERS",
        format!("{}={}", bridge::HEADER, key.trim()),
    ));
    Ok(variables)
}

fn render(variables: &[(&str, String)], shell: Shell) -> String {
    let line = |name: &str, value: &str| match shell {
        Shell::Sh => format!("export {name}='{value}'\n"),
        Shell::Fish => format!("set -gx {name} '{value}'\n"),
        Shell::Dotenv => format!("{name}={value}\n"),
        Shell::Json => String::new(),
    };
    if let Shell::Json = shell {
        let object: serde_json::Map<String, serde_json::Value> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
            .collect();
        return format!("{}\n", serde_json::Value::Object(object));
    }
    variables.iter().map(|(name, value)| line(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_reads_its_own_form() {
        let variables = [("A", "http://127.0.0.1:1".to_owned())];
        assert_eq!(render(&variables, Shell::Sh), "export A='http://127.0.0.1:1'\n");
        assert_eq!(render(&variables, Shell::Fish), "set -gx A 'http://127.0.0.1:1'\n");
        assert_eq!(render(&variables, Shell::Dotenv), "A=http://127.0.0.1:1\n");
        assert_eq!(render(&variables, Shell::Json), "{\"A\":\"http://127.0.0.1:1\"}\n");
    }
}
