//! `tagalong env`: the environment that makes any OpenTelemetry SDK report here.

use std::time::Duration;

use clap::ValueEnum;

use super::{Context, failure::Failure};
use crate::agent::control::{Answer, Ask};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Sh,
    Fish,
    Json,
    Dotenv,
}

pub(super) fn run(context: &Context, shell: Shell) -> Result<(), Failure> {
    if context.env.get("OTEL_CONFIG_FILE").is_some() {
        eprintln!("tagalong: OTEL_CONFIG_FILE is set: SDKs that honour it ignore these variables");
    }
    super::print(format_args!("{}", render(&variables(context)?, shell)));
    Ok(())
}

/// The real ports of the running agent.
fn variables(context: &Context) -> Result<Vec<(&'static str, String)>, Failure> {
    let http = match context.ask(&Ask::Status, Duration::from_secs(2))? {
        Answer::Status(status) => status.agent.map(|agent| agent.endpoints.http),
        _ => None,
    };
    let http = http.unwrap_or_else(|| context.loaded.config.listen.http.to_string());
    Ok(vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{http}")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        ("OTEL_METRICS_EXPORTER", "otlp".to_owned()),
        ("OTEL_LOGS_EXPORTER", "otlp".to_owned()),
    ])
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
