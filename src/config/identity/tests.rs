//! Which credential is chosen, and what an exchange is made of.

use super::*;
use crate::config::tests::Machine;

const UPSTREAM: &str = "https://otel.example.com/path";
const PROVIDER: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider";

fn sending() -> Machine {
    Machine::new().flag("export.endpoint", UPSTREAM)
}

/// What "auto" chose, and why.
#[track_caller]
fn automatic(machine: &Machine) -> (Credential, String) {
    let identity = machine.loaded().config.identity;
    (identity.credential, identity.reason.expect("a choice has a reason"))
}

#[track_caller]
fn exchange(machine: Machine) -> Exchange {
    machine.loaded().config.identity.exchange.expect("an exchange")
}

/// An unsigned job token of GitLab's.
fn job_token() -> String {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.x",
        encode("{}"),
        encode(r#"{"project_path":"g/p","user_id":"7"}"#)
    )
}

#[test]
fn a_plain_machine_of_a_cloud_names_the_setting_that_would_use_its_account_and_chooses_nothing() {
    let of = |name: &str, text: &str| {
        let file = format!("sys/class/dmi/id/{name}");
        automatic(&sending().file(&file, text))
    };
    for (name, text, setting) in [
        (
            "product_name",
            "Google Compute Engine\n",
            "identity.credential = \"gcp\"",
        ),
        (
            "chassis_asset_tag",
            "7783-7084-3265-9085-8269-3286-77\n",
            "identity.credential = \"azure\"",
        ),
    ] {
        let (credential, reason) = of(name, text);
        assert_eq!(credential, Credential::None);
        assert!(reason.contains(setting) && reason.ends_with('.'), "{reason}");
    }
    // A machine under somebody's desk, and a guest of the same hypervisor elsewhere.
    for (name, text) in [("product_name", "Virtual Machine"), ("chassis_asset_tag", "None")] {
        assert!(!of(name, text).1.contains("identity.credential"));
    }
}

#[test]
fn each_platform_offers_its_own_credential_and_says_why() {
    let github = sending().var("GITHUB_ACTIONS", "true");
    let gitlab = sending().var("GITLAB_CI", "true");
    let azure = || {
        sending()
            .var("TF_BUILD", "True")
            .var("SYSTEM_COLLECTIONURI", "https://dev.azure.com/o/")
    };
    for (machine, wanted, why) in [
        (sending().var("GITPOD_WORKSPACE_ID", "w"), Credential::Gitpod, "Gitpod"),
        (sending().var("GITPOD_ENVIRONMENT_ID", "e"), Credential::Ona, "Ona"),
        (github, Credential::None, "id-token: write"),
        (gitlab, Credential::None, "id_tokens"),
        (azure(), Credential::None, "exchange only"),
    ] {
        let (credential, reason) = automatic(&machine);
        assert_eq!(credential, wanted);
        assert!(reason.contains(why) && reason.ends_with('.'), "{reason}");
    }
    let github = sending()
        .var("GITHUB_ACTIONS", "true")
        .var("ACTIONS_ID_TOKEN_REQUEST_URL", "https://runner.example/token?a=b")
        .var("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t");
    assert_eq!(automatic(&github).0, Credential::Github);
    let gitlab = sending().var("GITLAB_CI", "true").var("ANY_NAME", &job_token());
    assert_eq!(automatic(&gitlab).0, Credential::Gitlab(None));
    let azure = azure()
        .var("SYSTEM_OIDCREQUESTURI", "https://dev.azure.com/o/p/_apis/x")
        .var("SYSTEM_ACCESSTOKEN", "t");
    assert_eq!(automatic(&azure).0, Credential::None);
    let exchanged = azure
        .flag("identity.exchange", "rfc8693")
        .flag("identity.issuer", "https://issuer.example");
    assert_eq!(automatic(&exchanged).0, Credential::AzureDevops(None));
}

#[test]
fn what_is_set_goes_before_what_the_platform_offers() {
    let machine = sending()
        .var("GITPOD_WORKSPACE_ID", "w")
        .flag("identity.url", "https://tokens.example/{audience}");
    let (credential, reason) = automatic(&machine);
    assert_eq!(credential.as_str(), "http");
    assert_eq!(reason, "identity.url is set.");
}

#[test]
fn a_token_comes_from_an_address_over_tls_or_from_this_link() {
    for fine in [
        "https://t.example/a?b=c",
        "http://127.0.0.1:1/",
        "http://169.254.169.254/x",
    ] {
        sending().flag("identity.url", fine).loaded();
    }
    for not in [
        "http://t.example/",
        "https://me:pw@t.example/",
        "ftp://127.0.0.1/",
        "http://169.253.1.1/",
    ] {
        let errors = sending().flag("identity.url", not).errors();
        assert!(errors.contains("identity.url") && !errors.contains("pw"), "{errors}");
    }
}

#[test]
fn no_debug_shows_the_headers_of_the_address() {
    let machine = sending()
        .flag("identity.url", "https://tokens.example/?key=canary-a")
        .flag("identity.http_headers", "x-key=canary-b");
    assert!(!format!("{:?}", machine.loaded()).contains("canary-b"));
    assert!(!format!("{:?}", machine.loaded().config).contains("canary-a"));
}

#[test]
fn an_assertion_for_entra_is_asked_for_the_audience_that_entra_wants() {
    let machine = sending()
        .flag("identity.file", "/t")
        .flag("identity.exchange", "client-assertion")
        .flag("identity.issuer", "https://login.microsoftonline.com/tenant/v2.0")
        .flag("identity.client_id", "app")
        .flag("identity.scopes", "api://gateway/.default");
    let exchange = exchange(machine);
    assert_eq!(exchange.grant, Grant::ClientAssertion);
    assert_eq!(exchange.subject_audience, "api://AzureADTokenExchange");
    // Entra takes scopes; what was derived from the endpoint is not sent there.
    assert_eq!(exchange.audience, None);
}

#[test]
fn in_azures_kubernetes_the_mounted_token_is_exchanged() {
    let machine = sending()
        .var("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        .var(
            "AZURE_FEDERATED_TOKEN_FILE",
            "/var/run/secrets/azure/tokens/azure-identity-token",
        )
        .flag("identity.exchange", "client-assertion")
        .flag("identity.issuer", "https://login.microsoftonline.com/tenant/v2.0")
        .flag("identity.client_id", "app")
        .flag("identity.scopes", "api://gateway/.default");
    let (credential, _) = automatic(&machine);
    let path = PathBuf::from("/var/run/secrets/azure/tokens/azure-identity-token");
    assert_eq!(credential, Credential::Kubernetes(Some(path)));
    // Entra's tokens may come under the name of its older issuer.
    assert_eq!(machine.loaded().config.identity.accepted_issuer(), None);
}

#[test]
fn a_token_exchange_asks_the_workspace_for_a_token_for_the_issuer_and_the_issuer_for_one_for_upstream() {
    let machine = sending()
        .flag("identity.file", "/t")
        .flag("identity.exchange", "rfc8693")
        .flag("identity.token_endpoint", "https://issuer.example/token");
    let exchange = exchange(machine);
    assert_eq!(exchange.subject_audience, "https://issuer.example/token");
    assert_eq!(exchange.audience.as_deref(), Some("https://otel.example.com"));
}

#[test]
fn google_gets_its_provider_and_the_workspace_is_asked_for_it_as_a_url() {
    let machine = sending()
        .flag("identity.file", "/t")
        .flag("identity.exchange", "gcp-sts")
        .flag("identity.exchange_audience", PROVIDER)
        .flag("identity.service_account", "sa@p.iam.gserviceaccount.com");
    let exchange = exchange(machine);
    assert_eq!(exchange.subject_audience, format!("https:{PROVIDER}"));
    assert_eq!(exchange.audience.as_deref(), Some(PROVIDER));
    let Grant::GoogleSts(Some(account)) = exchange.grant else {
        panic!("{:?}", exchange.grant);
    };
    assert_eq!(account.audience.as_deref(), Some("https://otel.example.com"));
}

#[test]
fn what_an_exchange_lacks_is_said_before_the_first_token() {
    let with = |name: &str| sending().flag("identity.file", "/t").flag("identity.exchange", name);
    let lines = [
        with("rfc8693"),
        with("client-assertion"),
        with("gcp-sts"),
        sending()
            .flag("identity.credential", "none")
            .flag("identity.exchange", "rfc8693")
            .flag("identity.issuer", "https://i.example"),
    ]
    .map(|machine| machine.errors());
    insta::assert_snapshot!(lines.join("\n"), @r#"
    identity.exchange (flag): "rfc8693" needs identity.token_endpoint or identity.issuer, which is not set
    identity.exchange (flag): "client-assertion" needs identity.token_endpoint or identity.issuer and identity.client_id and identity.scopes, which is not set
    identity.exchange (flag): "gcp-sts" needs identity.exchange_audience (//iam.googleapis.com/projects/…/providers/…), which is not set
    identity.exchange (flag): "rfc8693" has no credential to exchange
    "#);
}

#[test]
fn a_clients_secret_without_a_client_is_refused() {
    let machine = sending().flag("identity.client_secret_file", "/s");
    insta::assert_snapshot!(
        machine.errors(),
        @"identity.client_secret_file (flag): is of no client; expected identity.client_id too"
    );
    let machine = sending()
        .flag("identity.client_secret_file", "/s")
        .flag("identity.client_id", "app");
    assert_eq!(machine.loaded().config.identity.client_secret_file, Some("/s".into()));
}

#[test]
fn where_the_place_offers_nothing_the_exchange_is_left_out_and_the_agent_starts() {
    let machine = sending()
        .flag("identity.exchange", "rfc8693")
        .flag("identity.issuer", "https://issuer.example");
    let identity = machine.loaded().config.identity;
    assert_eq!(identity.credential, Credential::None);
    assert!(identity.exchange.is_none());
}
