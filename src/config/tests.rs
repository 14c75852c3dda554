//! Precedence, locks, and what is said when settings are wrong.

use super::*;

#[test]
fn the_embedded_file_has_every_key_and_no_other() {
    let table: toml::Table = include_str!("default.toml").parse().unwrap();
    let mut written: Vec<String> = table
        .iter()
        .flat_map(|(section, keys)| {
            keys.as_table()
                .unwrap()
                .keys()
                .map(move |key| format!("{section}.{key}"))
        })
        .collect();
    let mut known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    written.sort();
    known.sort_unstable();
    assert_eq!(written, known);
    let settings = Settings::read(&Env::default(), &[], &nowhere());
    assert_eq!(settings.errors, []);
}

fn nowhere() -> Locations {
    Locations {
        system: "/nonexistent/system.toml".into(),
        user: None,
        own: Vec::new(),
    }
}
