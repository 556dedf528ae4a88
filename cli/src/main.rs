//! The `berth` binary: reads configuration, starts what the other crates export, talks to `/v1`.
//! Nothing is decided here.

mod clock;
mod config;
mod daemon;
mod logging;
mod pki;
mod up;
mod verbs;

use anyhow::Result;
use clap::{Parser, Subcommand};
use logging::LogFormat;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs containers, each a virtual machine with its own kernel, over many hosts.
#[derive(Debug, Parser)]
#[command(name = "berth", version, propagate_version = true)]
struct Arguments {
    /// How logs are written, to stderr; BERTH_LOG filters them as RUST_LOG would.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(up::arguments::UpArguments),
    Down(up::arguments::DownArguments),
    /// Run a replica of a cell's schedulers.
    Scheduler(daemon::Arguments),
    /// Run the agent of a host.
    Node(daemon::Arguments),
    /// Run the keeper of a host: leases and fencing.
    Keeper(daemon::Arguments),
    /// Run the switch of a host: networks of its container VMs.
    Switch(daemon::Arguments),
    Get(Box<verbs::get::Arguments>),
    Explain(Box<verbs::explain::Arguments>),
    Create(Box<verbs::create::Arguments>),
    Start(verbs::change::StartArguments),
    Stop(verbs::change::StopArguments),
    Delete(verbs::change::DeleteArguments),
    Place(Box<verbs::place::Arguments>),
    Release(verbs::place::ReleaseArguments),
    Extend(verbs::place::ExtendArguments),
    Rule {
        #[command(subcommand)]
        verb: verbs::rule::Verb,
    },
    Policy {
        #[command(subcommand)]
        verb: verbs::policy::Verb,
    },
    Capacity(Box<verbs::ask::CapacityArguments>),
    WhatIf {
        #[command(subcommand)]
        question: verbs::ask::WhatIf,
    },
    Events(verbs::events::Arguments),
    Maintenance(verbs::operate::MaintenanceArguments),
    /// Change hosts; `berth get hosts` shows them.
    Host {
        #[command(subcommand)]
        verb: verbs::operate::HostVerb,
    },
    /// Change clusters; `berth get clusters` shows them.
    Cluster {
        #[command(subcommand)]
        verb: verbs::operate::ClusterVerb,
    },
    /// Change endpoints and their quotas; `berth get endpoints` shows them.
    Endpoint {
        #[command(subcommand)]
        verb: verbs::operate::EndpointVerb,
    },
    /// Check or show configuration files.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    Pki {
        #[command(subcommand)]
        verb: pki::Verb,
    },
    Bench {
        #[command(subcommand)]
        case: verbs::bench::Case,
    },
    /// Print version and build.
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Read a file as a process would, environment included, and say what is wrong with it.
    Check {
        #[arg(long, value_enum)]
        role: config::Role,
        file: PathBuf,
        /// `section.key=value`, as the process would be given it.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print a file with every key, each explained.
    Example {
        #[arg(long, value_enum)]
        role: config::Role,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The HTTP client wants one for the whole process; ours are named where they are used. It fails
    // only where one is set, and then there is one.
    let _set = rustls::crypto::ring::default_provider().install_default();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            up::progress::line(&format!("berth: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let log_format = arguments.log_format;
    // Processes tell what they do; commands speak for themselves and log only trouble.
    let start_logging = |filter| logging::start(log_format, filter);
    match arguments.verb {
        Verb::Scheduler(arguments) => daemon::run(daemon::scheduler::run, arguments, log_format),
        Verb::Node(arguments) => daemon::run(daemon::node::run, arguments, log_format),
        Verb::Keeper(arguments) => daemon::run(daemon::keeper::run, arguments, log_format),
        Verb::Switch(arguments) => daemon::run(daemon::switch::run, arguments, log_format),
        Verb::Up(arguments) => {
            start_logging("warn")?;
            if arguments.own_session {
                daemon::make_session()?;
            }
            actix_rt::System::new().block_on(up::up(arguments, log_format))
        }
        Verb::Down(arguments) => {
            start_logging("warn")?;
            actix_rt::System::new().block_on(up::down::down(arguments))
        }
        Verb::Get(arguments) => verb(start_logging("warn"), verbs::get::run(*arguments)),
        Verb::Explain(arguments) => verb(start_logging("warn"), verbs::explain::run(*arguments)),
        Verb::Create(arguments) => verb(start_logging("warn"), verbs::create::run(*arguments)),
        Verb::Start(arguments) => verb(start_logging("warn"), verbs::change::start(arguments)),
        Verb::Stop(arguments) => verb(start_logging("warn"), verbs::change::stop(arguments)),
        Verb::Delete(arguments) => verb(start_logging("warn"), verbs::change::delete(arguments)),
        Verb::Place(arguments) => verb(start_logging("warn"), verbs::place::run(*arguments)),
        Verb::Release(arguments) => verb(start_logging("warn"), verbs::place::release(arguments)),
        Verb::Extend(arguments) => verb(start_logging("warn"), verbs::place::extend(arguments)),
        Verb::Rule { verb: rule } => verb(start_logging("warn"), verbs::rule::run(rule)),
        Verb::Policy { verb: policy } => verb(start_logging("warn"), verbs::policy::run(policy)),
        Verb::Capacity(arguments) => verb(start_logging("warn"), verbs::ask::capacity(*arguments)),
        Verb::WhatIf { question } => verb(start_logging("warn"), verbs::ask::what_if(question)),
        Verb::Events(arguments) => verb(start_logging("warn"), verbs::events::run(arguments)),
        Verb::Maintenance(arguments) => {
            verb(start_logging("warn"), verbs::operate::maintenance(arguments))
        }
        Verb::Host { verb: host } => verb(start_logging("warn"), verbs::operate::host(host)),
        Verb::Cluster { verb: cluster } => {
            verb(start_logging("warn"), verbs::operate::cluster(cluster))
        }
        Verb::Endpoint { verb: endpoint } => {
            verb(start_logging("warn"), verbs::operate::endpoint(endpoint))
        }
        Verb::Config { verb: ConfigVerb::Check { role, file, set } } => {
            role.check(&file, &set)?;
            verbs::output::line(&format!("{} is a valid {role} configuration", file.display()))
        }
        Verb::Config { verb: ConfigVerb::Example { role } } => verbs::output::text(role.example()),
        Verb::Pki { verb } => pki::run(verb),
        Verb::Bench { case } => verb(start_logging("warn"), verbs::bench::run(case)),
        Verb::Version => verbs::output::line(&version()),
    }
}

fn verb(logging: Result<()>, work: impl Future<Output = Result<()>>) -> Result<()> {
    logging?;
    actix_rt::System::new().block_on(work)
}

fn version() -> String {
    format!("berth {} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
}
