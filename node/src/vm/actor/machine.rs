//! What the actor does with its machine and the agent in it.

use super::VmActor;
use crate::hypervisor::{LaunchError, RunningVm};
use crate::vm::guest_link::{self, News};
use crate::vm::guest_spec;
use crate::vm::lifecycle::{Agent, Event, Machine};
use crate::vm::records::{self, off_thread};
use crate::vm::translation::{
    heard_standing, look_for_left, not_started, setup_failed, start_failure, vm_sample,
};
use actix::prelude::*;
use berth_model::guest::{HostToGuest, LOG_RESERVE};
use rand::RngCore as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// News that wait for the actor; the link reads no more meanwhile.
const NEWS: usize = 32;
/// Between attempts to find out what an earlier node left.
const ADOPT_RETRY: Duration = Duration::from_secs(1);
/// What the console of a guest may grow to before it is emptied.
const CONSOLE_MAX: u64 = 1 << 20;
/// The log may be so much larger than the agent's credit before its guest is held for hostile.
const LOG_SLACK: u64 = 1 << 20;

impl VmActor {
    pub(super) fn find_what_is_left(&mut self, context: &mut Context<Self>) {
        let (settings, hypervisor) = (self.settings.clone(), self.hypervisor.clone());
        let plan = self.plan.clone();
        let look = async move {
            loop {
                match look_for_left(&settings, &plan, hypervisor.as_ref()).await {
                    Ok(found) => return found,
                    // What is not known to be gone may run, so nothing else is safe but to look again.
                    Err(error) => {
                        let container = settings.container;
                        tracing::error!(%container, %error, "cannot find out what is left of a run");
                        tokio::time::sleep(ADOPT_RETRY).await;
                    }
                }
            }
        };
        let look = look.into_actor(self).map(|(left, machine, started_at), actor, context| {
            actor.started_at = started_at;
            if let Some(machine) = machine {
                actor.metrics.began("adopted");
                actor.machine_is_there(machine, context);
            }
            actor.event(Event::Left(left), context);
        });
        context.spawn(look);
    }

    pub(super) fn prepare(&mut self, context: &mut Context<Self>) {
        let (settings, hypervisor) = (self.settings.clone(), self.hypervisor.clone());
        let plan = self.plan.clone();
        self.marks.part = Some(Instant::now());
        self.then(context, async move {
            let run_directory = settings.run_directory.clone();
            let saved = off_thread(move || records::save_settings(&settings)).await;
            let prepared = match saved.map_err(LaunchError::io("make", &run_directory)) {
                Ok(()) => hypervisor.prepare(&plan).await,
                Err(error) => Err(error),
            };
            Event::Machine(match prepared {
                Ok(()) => Machine::Prepared,
                Err(error) => Machine::PrepareFailed(not_started(&error)),
            })
        });
    }

    pub(super) fn queue(&mut self, context: &mut Context<Self>) {
        self.took("delta");
        let hypervisor = self.hypervisor.clone();
        let wait = async move { hypervisor.boot_slot().await };
        context.spawn(wait.into_actor(self).map(|slot, actor, context| {
            // Given back at once if the run does not want it any more, see `show`.
            actor.slot = Some(slot);
            actor.event(Event::Machine(Machine::SlotTaken), context);
        }));
    }

    pub(super) fn launch(&mut self, context: &mut Context<Self>) {
        self.took("queue");
        let (hypervisor, plan) = (self.hypervisor.clone(), self.plan.clone());
        let launch = async move { hypervisor.launch(&plan).await };
        let launch = launch.into_actor(self).map(|launched, actor, context| {
            let event = match launched {
                Ok(machine) => {
                    actor.took("launch");
                    actor.machine_is_there(machine, context);
                    Machine::Launched
                }
                Err(error) => Machine::LaunchFailed(not_started(&error)),
            };
            actor.event(Event::Machine(event), context);
        });
        context.spawn(launch);
    }

    fn machine_is_there(&mut self, machine: Arc<dyn RunningVm>, context: &mut Context<Self>) {
        self.metrics.machine_runs(true);
        self.machine.send_replace(Some(machine.clone()));
        let gone = async move { machine.ended().await };
        let gone = gone.into_actor(self).map(|ended, actor, context| {
            if let Some(link) = actor.link.take() {
                link.abort();
            }
            actor.machine.send_replace(None);
            actor.metrics.machine_runs(false);
            let last_words = ended.last_words;
            actor.event(Event::Machine(Machine::Gone { last_words }), context);
        });
        context.spawn(gone);
    }

    pub(super) fn connect(&mut self, context: &mut Context<Self>) {
        let machine = self.machine.borrow().clone();
        let (Some(machine), Some(queues)) = (machine, self.queues.take()) else { return };
        let (news, heard) = mpsc::channel(NEWS);
        let silence = self.hypervisor.deadlines().silence;
        self.link = Some(tokio::spawn(guest_link::run(machine, queues, news, silence)));
        self.hear(heard, context);
    }

    /// Waits for the next piece of news, and then for the one behind it.
    fn hear(&mut self, mut heard: mpsc::Receiver<News>, context: &mut Context<Self>) {
        let next = async move { (heard.recv().await, heard) }.into_actor(self);
        context.spawn(next.map(|(news, heard), actor, context| {
            if let Some(news) = news {
                actor.understand(news, context);
                actor.hear(heard, context);
            }
        }));
    }

    fn understand(&mut self, news: News, context: &mut Context<Self>) {
        let event = match news {
            News::Ready { kernel, agent, uptime, standing } => {
                let container = self.settings.container;
                tracing::info!(%container, %kernel, %agent, ?uptime, "guest agent is there");
                heard_standing(standing)
            }
            News::Started => Agent::ProcessStarted,
            News::StartFailed(failure) => Agent::StartFailed(start_failure(failure)),
            News::SetupFailed { text } => Agent::StartFailed(setup_failed(&text)),
            News::Exited(status) => Agent::ProcessExited(records::exit_of(&status)),
            News::Silent => {
                self.metrics.agent_silent();
                Agent::Silent
            }
            News::Broken(text) => Agent::Broken(text),
            News::Sample(sample) => {
                let name = &self.settings.order.name;
                self.metrics.sampled(&self.container, name, &vm_sample(&sample));
                return;
            }
        };
        self.event(Event::Agent(event), context);
    }

    pub(super) fn set_up(&mut self, context: &mut Context<Self>) {
        self.took("boot");
        let mut bytes = vec![0; 64];
        rand::rng().fill_bytes(&mut bytes);
        let unix_ns = crate::clock::now().0.saturating_mul(1_000_000);
        let spec = guest_spec::guest_spec(&self.settings, self.hypervisor.log_limit());
        self.say(HostToGuest::Clock { unix_ns }, context);
        self.say(HostToGuest::Entropy { bytes }, context);
        self.say(HostToGuest::Setup(Box::new(spec)), context);
    }

    /// In order, even where the link is slow.
    pub(super) fn say(&mut self, message: HostToGuest, context: &mut Context<Self>) {
        let request = guest_link::Request::Say(message);
        if let Err(mpsc::error::TrySendError::Full(request)) = self.requests.try_send(request) {
            let requests = self.requests.clone();
            // Without a link there is nobody to tell, and the deadlines go on counting.
            let send = async move { drop(requests.send(request).await) };
            context.spawn(send.into_actor(self));
        }
    }

    pub(super) fn ask_executing(&mut self, context: &mut Context<Self>) {
        let Some(machine) = self.machine.borrow().clone() else { return };
        self.then(context, async move {
            let executing = machine.executing().await.unwrap_or(false);
            Event::Machine(Machine::Executing(executing))
        });
    }

    pub(super) fn power_off(&mut self, context: &mut Context<Self>) {
        let Some(machine) = self.machine.borrow().clone() else { return };
        // Its end comes as an event of its own.
        context.spawn(async move { machine.power_off().await }.into_actor(self));
    }

    /// Looks at what the machine costs, and at files that its guest can make grow.
    pub(super) fn look(&mut self, context: &mut Context<Self>) {
        let Some(machine) = self.machine.borrow().clone() else { return };
        if let Some(usage) = machine.usage() {
            let (name, cpu) = (&self.settings.order.name, usage.cpu.as_secs_f64());
            self.metrics.hypervisor_used(&self.container, name, cpu, usage.resident.0);
        }
        let unstall = async move { machine.unstall().await };
        context.spawn(unstall.into_actor(self).map(|stalled, actor, _context| {
            if matches!(stalled, Ok(true)) {
                let (container, directory) =
                    (actor.settings.container, actor.settings.directory.display());
                tracing::warn!(%container, %directory, "container VM halted because its disk could \
                    not be written; is its datastore full? it tries again");
                actor.metrics.stalled();
            }
        }));
        let log = self.plan.log.clone();
        let console = self.plan.run_directory.join(crate::hypervisor::CONSOLE_FILE);
        let look = off_thread(move || {
            let length = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            if length(&console) > CONSOLE_MAX {
                std::fs::File::options().write(true).open(&console)?.set_len(0)?;
            }
            Ok(length(&log))
        });
        context.spawn(look.into_actor(self).map(|log, actor, context| {
            let Ok(bytes) = log else { return };
            actor.metrics.log_size(&actor.container, &actor.settings.order.name, bytes);
            if bytes > actor.hypervisor.log_limit().0 + LOG_RESERVE + LOG_SLACK {
                actor.event(Event::Machine(Machine::LogOverflow), context);
            }
        }));
    }
}
