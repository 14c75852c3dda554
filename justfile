# The only entry point: people and CI run the same lines.

# What must pass before a merge.
pre:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test

test:
    cargo test

# The promises against real parts; installs what it needs below target/e2e.
e2e:
    tests/e2e/run.sh
    tests/e2e/identity.sh
    tests/e2e/keycloak.sh
    tests/e2e/places.sh

# Minutes of trouble for the real executable: kills, faults, short tokens, a full disk, a backlog. A line of figures each.
endure:
    cargo test --release --test it endure -- --ignored --nocapture --test-threads 2

bench:
    cargo bench

demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# What a release consists of: the static binary in an archive, checksums, an SBOM, the Feature.
dist:
    .ci/dist
