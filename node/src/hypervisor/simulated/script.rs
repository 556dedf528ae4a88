//! What a simulated container VM plays, read from its command.

use berth_model::ContainerSpec;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Print(String),
    Warn(String),
    Sleep(Duration),
    Cat,
    Exit(u8),
    Stubborn,
    Immortal,
    Vanish,
    FailLaunch,
    NeverReady,
    FailSetup,
    Missing,
    Mute,
    /// Until a signal comes.
    Forever,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Script(pub Vec<Step>);

impl Script {
    pub fn of(spec: &ContainerSpec) -> Script {
        let words: Vec<&str> =
            spec.entrypoint.iter().chain(&spec.command).map(String::as_str).collect();
        let text = words.join(" ");
        let text = text.trim_start_matches("sh -c ");
        Script(text.split(';').map(|step| step_of(step.trim())).collect())
    }

    pub fn begins_with(&self, step: Step) -> bool {
        self.0.first() == Some(&step)
    }
}

fn step_of(text: &str) -> Step {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    match (verb, rest) {
        ("print", rest) => Step::Print(format!("{rest}\n")),
        ("warn", rest) => Step::Warn(format!("{rest}\n")),
        ("sleep", rest) => {
            match rest.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
                Some(time) => Step::Sleep(time),
                None => Step::Forever,
            }
        }
        ("exit", rest) => rest.parse().map_or(Step::Forever, Step::Exit),
        ("cat", "") => Step::Cat,
        ("stubborn", "") => Step::Stubborn,
        ("immortal", "") => Step::Immortal,
        ("vanish", "") => Step::Vanish,
        ("fail-launch", "") => Step::FailLaunch,
        ("never-ready", "") => Step::NeverReady,
        ("fail-setup", "") => Step::FailSetup,
        ("missing", "") => Step::Missing,
        ("mute", "") => Step::Mute,
        _ => Step::Forever,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_from_a_command() {
        let steps: Vec<Step> = "print a b; sleep 0.5;exit 7; redis-server"
            .split(';')
            .map(|step| step_of(step.trim()))
            .collect();
        let expected = [
            Step::Print("a b\n".to_owned()),
            Step::Sleep(Duration::from_millis(500)),
            Step::Exit(7),
            Step::Forever,
        ];
        assert_eq!(steps, expected);
    }
}
