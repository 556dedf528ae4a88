//! What the actor keeps and tells of a run: its start, its end, each once and in order.

use super::VmActor;
use crate::vm::lifecycle::{self, Chore, Event, State, Verdict};
use crate::vm::records::{self, RecordedExit, off_thread};
use actix::prelude::*;
use berth_model::{Fact, Timestamp};

impl VmActor {
    pub(super) fn seek_end(&mut self, context: &mut Context<Self>) {
        let log = self.plan.log.clone();
        self.then(context, async move {
            Event::Sought(off_thread(move || Ok(records::end_in_log(&log))).await.ok().flatten())
        });
    }

    pub(super) fn record(&mut self, verdict: Verdict, context: &mut Context<Self>) {
        let exit = RecordedExit {
            container: self.settings.container,
            epoch: self.settings.epoch,
            started_at: self.started_at,
            verdict,
        };
        let directory = self.settings.directory.clone();
        self.then(context, async move {
            let container = exit.container;
            if let Err(error) = off_thread(move || records::record_exit(&directory, &exit)).await {
                // It is told all the same; a later node finds it in the log, if it was the process's own.
                tracing::error!(%container, %error, "cannot record how a run ended");
            }
            Event::Chore(Chore::Recorded)
        });
    }

    pub(super) fn tell_started(&mut self, at: Timestamp, context: &mut Context<Self>) {
        if !self.adopted {
            self.took("setup");
            if let Some(begun) = self.marks.begun {
                self.metrics.phase_took("total", begun.elapsed().as_secs_f64());
            }
            self.metrics.began("started");
        }
        if self.started_at.is_none() {
            self.started_at = Some(at);
            if let Err(error) = records::save_started(&self.settings.run_directory, at) {
                let container = self.settings.container;
                tracing::warn!(%container, %error, "cannot keep when the process started");
            }
        }
        let (container, epoch) = (self.settings.container, self.settings.epoch);
        self.tell(Fact::VmStarted { container, epoch, started_at: at }, context);
    }

    pub(super) fn tell_ended(&mut self, verdict: &Verdict, context: &mut Context<Self>) {
        match verdict.kind {
            lifecycle::Kind::Exited => self.metrics.exited(verdict.exit.code == 0),
            lifecycle::Kind::StartFailed => self.metrics.began("failed"),
        }
        let exit = RecordedExit {
            container: self.settings.container,
            epoch: self.settings.epoch,
            started_at: self.started_at,
            verdict: verdict.clone(),
        };
        tracing::info!(container = %exit.container, epoch = exit.epoch.0, ?verdict, "run ended");
        self.tell(exit.fact(), context);
    }

    /// One at a time, in order.
    fn tell(&mut self, fact: Fact, context: &mut Context<Self>) {
        self.outbox.push_back(fact);
        if !self.telling {
            self.tell_next(context);
        }
    }

    fn tell_next(&mut self, context: &mut Context<Self>) {
        let Some(fact) = self.outbox.pop_front() else {
            self.telling = false;
            if matches!(self.state, State::Telling { .. }) {
                self.event(Event::Chore(Chore::Told), context);
            }
            return;
        };
        self.telling = true;
        let facts = self.facts.clone();
        // Nobody listens only when the node ends; the next one tells it from the record.
        let send = async move { drop(facts.send(fact).await) };
        context.spawn(send.into_actor(self).map(|(), actor, context| actor.tell_next(context)));
    }

    pub(super) fn clean(&mut self, context: &mut Context<Self>) {
        let run_directory = self.settings.run_directory.clone();
        self.then(context, async move {
            let shown = run_directory.display().to_string();
            if let Err(error) = off_thread(move || records::clean(&run_directory)).await {
                tracing::warn!(directory = %shown, %error, "cannot remove a run directory");
            }
            Event::Chore(Chore::Cleaned)
        });
    }
}
