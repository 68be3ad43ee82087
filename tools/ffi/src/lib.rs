//! The agent for C: `muster.h` beside this, whose functions these are. Nothing unwinds across: each call is
//! caught at its edge, and a function of the program that is C++ must not throw.

pub mod application;
pub mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster::{Agent, AgentBuilder, AgentError, Application, NewEvent, RunningAgent, Severity, StopReason};

use self::application::{Guard, MusterApplication};
use self::text::{MusterText, copy_out};

/// `enum` of results in the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
enum MusterResult {
    Ok = 0,
    Argument = 1,
    State = 2,
    Directory = 3,
    Identity = 4,
    Enrolled = 5,
    Enroll = 6,
    Run = 7,
    Refused = 8,
    Ended = 9,
    NoAnswer = 10,
    Panic = 11,
}

/// Why a call failed.
struct Failure(MusterResult, String);

impl Failure {
    fn argument(what: impl Into<String>) -> Self {
        Self(MusterResult::Argument, what.into())
    }

    fn state(what: &str) -> Self {
        Self(MusterResult::State, what.to_owned())
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let result = match error {
            AgentError::Program(_) | AgentError::Address(_) | AgentError::Token(_) => MusterResult::Argument,
            AgentError::Directory(_) => MusterResult::Directory,
            AgentError::Identity(_) => MusterResult::Identity,
            AgentError::Enrolled { .. } => MusterResult::Enrolled,
            AgentError::Enroll(_) => MusterResult::Enroll,
            AgentError::Refused(_) => MusterResult::Refused,
            AgentError::Ended => MusterResult::Ended,
            AgentError::NoAnswer(_) => MusterResult::NoAnswer,
            _ => MusterResult::Run,
        };
        Self(result, error.to_string())
    }
}

/// An agent that does not run yet.
#[derive(Clone)]
struct Plan {
    directory: String,
    name: String,
    wake_port: u16,
    spool_mebibytes: u32,
    applications: Vec<Application>,
}

impl Plan {
    fn agent(&self) -> Result<Agent, AgentError> {
        let mut builder: AgentBuilder = Agent::builder(self.directory.as_str())
            .wake_port(self.wake_port)
            .spool_mebibytes(self.spool_mebibytes);
        if !self.name.is_empty() {
            builder = builder.name(self.name.as_str());
        }
        self.applications.iter().cloned().fold(builder, AgentBuilder::application).build()
    }
}

enum State {
    Planned(Plan),
    Started(Arc<RunningAgent>),
}

/// An agent, as C holds it.
pub struct MusterAgent {
    state: Mutex<State>,
    error: Mutex<String>,
    /// Lets the program's functions be called, until the agent is freed.
    guard: Arc<Guard>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MusterAgent {
    /// Makes a call; why it failed is kept for [`muster_agent_error`].
    fn call(&self, call: impl FnOnce(&Self) -> Result<(), Failure>) -> i32 {
        let done = catch_unwind(AssertUnwindSafe(|| call(self))).unwrap_or_else(|_| {
            Err(Failure(MusterResult::Panic, "muster has a fault, and panicked".to_owned()))
        });
        match done {
            Ok(()) => MusterResult::Ok as i32,
            Err(Failure(result, why)) => {
                *lock(&self.error) = why;
                result as i32
            }
        }
    }

    fn planned(&self) -> Result<Plan, Failure> {
        match &*lock(&self.state) {
            State::Planned(plan) => Ok(plan.clone()),
            State::Started(_) => Err(Failure::state("the agent was started already")),
        }
    }

    fn started(&self) -> Result<Arc<RunningAgent>, Failure> {
        match &*lock(&self.state) {
            State::Planned(_) => Err(Failure::state("the agent was not started yet")),
            State::Started(agent) => Ok(Arc::clone(agent)),
        }
    }
}

/// Calls with all signals blocked in this thread, and so in those that it starts: signals are the
/// program's, and a connection that breaks must not end it (SIGPIPE).
fn without_signals<T>(call: impl FnOnce() -> T) -> T {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset(3) fills the set that it is given; pthread_sigmask(3) reads it and fills the other.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = call();
    // SAFETY: the set was filled above.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    result
}

/// Makes an agent.
///
/// # Safety
/// The texts are as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_new(
    directory: MusterText,
    name: MusterText,
    wake_port: u16,
    spool_mebibytes: u32,
) -> *mut MusterAgent {
    // SAFETY: the caller's word.
    let (directory, name) = unsafe { (directory.to_text(), name.to_text()) };
    let wrong = [&directory, &name].into_iter().find_map(|text| text.clone().err()).unwrap_or_default();
    let plan = Plan {
        directory: directory.unwrap_or_default(),
        name: name.unwrap_or_default(),
        wake_port,
        spool_mebibytes,
        applications: Vec::new(),
    };
    Box::into_raw(Box::new(MusterAgent {
        state: Mutex::new(State::Planned(plan)),
        error: Mutex::new(wrong),
        guard: Arc::default(),
    }))
}

/// Adds an application.
///
/// # Safety
/// Agent and application are as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_application(
    agent: *mut MusterAgent,
    application: *const MusterApplication,
) -> i32 {
    // SAFETY: the caller's word.
    let Some((agent, application)) = (unsafe { agent.as_ref().zip(application.as_ref()) }) else {
        return MusterResult::Argument as i32;
    };
    agent.call(|agent| {
        let mut plan = agent.planned()?;
        // SAFETY: the caller's word.
        let application = unsafe { application.to_application(&agent.guard) };
        plan.applications.push(application.map_err(Failure::argument)?);
        // A fault in it is told now.
        plan.agent()?;
        *lock(&agent.state) = State::Planned(plan);
        Ok(())
    })
}

/// Whether the device is enrolled.
///
/// # Safety
/// The agent is as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_is_enrolled(agent: *mut MusterAgent) -> i32 {
    // SAFETY: the caller's word.
    let Some(agent) = (unsafe { agent.as_ref() }) else { return MusterResult::Argument as i32 };
    agent.call(|agent| match agent.planned()?.agent()?.is_enrolled()? {
        true => Ok(()),
        false => Err(Failure(MusterResult::Identity, "the device is not enrolled".to_owned())),
    })
}

/// Enrols the device.
///
/// # Safety
/// Agent and texts are as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_enroll(
    agent: *mut MusterAgent,
    server: MusterText,
    token: MusterText,
) -> i32 {
    // SAFETY: the caller's word.
    let Some(agent) = (unsafe { agent.as_ref() }) else { return MusterResult::Argument as i32 };
    agent.call(|agent| {
        // SAFETY: the caller's word.
        let (server, token) = unsafe { (server.to_text(), token.to_text()) };
        let (server, token) = (server.map_err(Failure::argument)?, token.map_err(Failure::argument)?);
        let device = agent.planned()?.agent()?;
        // In a thread of its own: a signal that is raised while it is blocked comes when it no longer is.
        let thread = without_signals(|| std::thread::spawn(move || device.enroll(&server, &token)));
        match thread.join() {
            Ok(enrolled) => Ok(enrolled.map(drop)?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Starts the agent.
///
/// # Safety
/// The agent is as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_start(agent: *mut MusterAgent) -> i32 {
    // SAFETY: the caller's word.
    let Some(agent) = (unsafe { agent.as_ref() }) else { return MusterResult::Argument as i32 };
    agent.call(|agent| {
        let device = agent.planned()?.agent()?;
        let running = without_signals(|| device.start())?;
        *lock(&agent.state) = State::Started(Arc::new(running));
        Ok(())
    })
}

/// Emits an event.
///
/// # Safety
/// Agent, texts and fields are as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_emit(
    agent: *mut MusterAgent,
    application: MusterText,
    severity: i32,
    kind: MusterText,
    message: MusterText,
    fields: *const MusterField,
    fields_count: usize,
) -> i32 {
    // SAFETY: the caller's word.
    let Some(agent) = (unsafe { agent.as_ref() }) else { return MusterResult::Argument as i32 };
    agent.call(|agent| {
        let severity = usize::try_from(severity).ok().and_then(|severity| Severity::ALL.get(severity));
        let severity = *severity.ok_or_else(|| Failure::argument("there is no such severity"))?;
        // SAFETY: the caller's word.
        let text = |text: &MusterText| unsafe { text.to_text() }.map_err(Failure::argument);
        let event = NewEvent::new(text(&application)?, severity, text(&kind)?, text(&message)?);
        // SAFETY: the caller's word.
        let fields = unsafe { text::list(fields, fields_count) };
        let event = fields.iter().try_fold(event, |event, field| {
            Ok::<_, Failure>(event.field(text(&field.name)?, text(&field.value)?))
        })?;
        agent.started()?.emit(&event)?;
        Ok(())
    })
}

/// `MusterField` of the header.
#[repr(C)]
pub struct MusterField {
    name: MusterText,
    value: MusterText,
}

/// Syncs.
///
/// # Safety
/// The agent is as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_sync(agent: *mut MusterAgent) -> i32 {
    // SAFETY: the caller's word.
    let Some(agent) = (unsafe { agent.as_ref() }) else { return MusterResult::Argument as i32 };
    agent.call(|agent| Ok(agent.started()?.sync()?))
}

/// Writes the agent's state.
///
/// # Safety
/// The agent is as the header says; `buffer` has `size` bytes, and `length` is a place of one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_status(
    agent: *mut MusterAgent,
    buffer: *mut libc::c_char,
    size: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: the caller's word.
    let Some((agent, length)) = (unsafe { agent.as_ref().zip(length.as_mut()) }) else {
        return MusterResult::Argument as i32;
    };
    agent.call(|agent| {
        let status = agent.started()?.status()?.to_json();
        // SAFETY: the caller's word.
        *length = unsafe { copy_out(&status, buffer, size) };
        Ok(())
    })
}

/// Stops the agent.
///
/// # Safety
/// The agent is as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_stop(agent: *mut MusterAgent, reason: i32) -> i32 {
    // SAFETY: the caller's word.
    let Some(agent) = (unsafe { agent.as_ref() }) else { return MusterResult::Argument as i32 };
    agent.call(|agent| {
        let reason = match reason {
            0 => StopReason::AgentStopped,
            1 => StopReason::Shutdown,
            2 => StopReason::Reboot,
            _ => return Err(Failure::argument("there is no such reason to stop")),
        };
        Ok(agent.started()?.stop(reason)?)
    })
}

/// Writes why the last call failed.
///
/// # Safety
/// The agent is as the header says; `buffer` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_error(
    agent: *mut MusterAgent,
    buffer: *mut libc::c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller's word.
    let Some(agent) = (unsafe { agent.as_ref() }) else { return 0 };
    // SAFETY: the caller's word.
    unsafe { copy_out(&lock(&agent.error), buffer, size) }
}

/// Ends and frees the agent.
///
/// # Safety
/// Nobody uses the agent any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_agent_free(agent: *mut MusterAgent) {
    if agent.is_null() {
        return;
    }
    // SAFETY: muster_agent_new gave it, and the caller gives it back.
    let agent = unsafe { Box::from_raw(agent) };
    let guard = Arc::clone(&agent.guard);
    guard.begin_to_end();
    // It says nothing of what went wrong: nobody could ask.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(agent)));
    guard.end();
}
