//! An application of the program, whose functions are C.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use muster::{Application, ArtifactUse, Condition, Task, TaskEnd};

use crate::text::{self, MusterText};

/// Most that a function may say: what is longer is cut.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Lets functions of the program be called until the agent is freed: the things that they use may be gone
/// then.
#[derive(Default)]
pub(crate) struct Guard {
    /// Tasks should end.
    is_ending: AtomicBool,
    /// Nothing may be called any more.
    has_ended: RwLock<bool>,
}

impl Guard {
    /// Asks tasks to end.
    pub(crate) fn begin_to_end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Waits for the functions that are being called. From then on none is.
    pub(crate) fn end(&self) {
        *self.has_ended.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn call<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let has_ended = self.has_ended.read().unwrap_or_else(PoisonError::into_inner);
        (!*has_ended).then(call)
    }
}

/// The pointer that the program hands to its functions.
#[derive(Clone, Copy)]
struct Context(*mut c_void);

// SAFETY: the header says that functions are called in threads of the agent, several at a time: what the
// pointer leads to is made for that.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    fn pointer(self) -> *mut c_void {
        self.0
    }
}

/// The words of an answer.
#[derive(Default)]
pub struct MusterAnswer(Vec<u8>);

impl MusterAnswer {
    fn text(self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// A task that is being done.
pub struct MusterTask<'a> {
    task: &'a Task,
    guard: &'a Guard,
}

type ConditionFunction = unsafe extern "C" fn(*mut c_void, *mut MusterAnswer) -> i32;
type SettingsFunction = unsafe extern "C" fn(*mut c_void, MusterText, *mut MusterAnswer) -> i32;
type NumberFunction = unsafe extern "C" fn(*mut c_void) -> f64;
type TaskFunction =
    unsafe extern "C" fn(*mut c_void, *mut MusterTask<'_>, MusterText, *mut MusterAnswer) -> i32;

/// `MusterStatistic` of the header.
#[repr(C)]
pub struct MusterStatistic {
    name: MusterText,
    unit: MusterText,
    read: Option<NumberFunction>,
}

/// `MusterTaskKind` of the header.
#[repr(C)]
pub struct MusterTaskKind {
    kind: MusterText,
    schema: MusterText,
    run: Option<TaskFunction>,
    artifact: i32,
}

/// `MusterApplication` of the header.
#[repr(C)]
pub struct MusterApplication {
    name: MusterText,
    version: MusterText,
    context: *mut c_void,
    condition: Option<ConditionFunction>,
    settings_schema: MusterText,
    settings: Option<SettingsFunction>,
    statistics: *const MusterStatistic,
    statistics_count: usize,
    tasks: *const MusterTaskKind,
    tasks_count: usize,
}

impl MusterApplication {
    /// # Safety
    /// Texts, lists and functions are as the header says.
    pub(crate) unsafe fn to_application(&self, guard: &Arc<Guard>) -> Result<Application, String> {
        // SAFETY: the caller's word.
        let text = |text: &MusterText| unsafe { text.to_text() };
        let (context, new_guard) = (Context(self.context), || Arc::clone(guard));
        let mut application = Application::new(text(&self.name)?, text(&self.version)?);
        if let Some(function) = self.condition {
            let guard = new_guard();
            application = application.condition(move || {
                let asked = guard.call(|| {
                    let mut why = MusterAnswer::default();
                    // SAFETY: the header's contract of the function.
                    let condition = unsafe { function(context.pointer(), &raw mut why) };
                    (condition_of(condition), why.text())
                });
                asked.unwrap_or((Condition::Unknown, String::new()))
            });
        }
        if let Some(function) = self.settings {
            let guard = new_guard();
            application = application.settings(text(&self.settings_schema)?, move |settings| {
                let asked = guard.call(|| {
                    let mut reason = MusterAnswer::default();
                    let settings = MusterText::of(settings);
                    // SAFETY: the header's contract of the function.
                    match unsafe { function(context.pointer(), settings, &raw mut reason) } {
                        0 => Ok(()),
                        code if reason.0.is_empty() => Err(format!("refused with code {code}")),
                        _ => Err(reason.text()),
                    }
                });
                asked.unwrap_or_else(|| Err("the program ends".to_owned()))
            });
        }
        // SAFETY: the caller's word.
        let statistics = unsafe { text::list(self.statistics, self.statistics_count) };
        for statistic in statistics {
            let function = statistic.read.ok_or("a statistic has no function")?;
            let guard = new_guard();
            // SAFETY: the header's contract of the function.
            let read = move || guard.call(|| unsafe { function(context.pointer()) });
            application = application.statistic(text(&statistic.name)?, text(&statistic.unit)?, read);
        }
        // SAFETY: the caller's word.
        for task in unsafe { text::list(self.tasks, self.tasks_count) } {
            let function = task.run.ok_or("a kind of task has no function")?;
            let guard = new_guard();
            let artifact = artifact_of(task.artifact)?;
            let (kind, schema) = (text(&task.kind)?, text(&task.schema)?);
            application = application.task_with_artifact(kind, schema, artifact, move |task| {
                let ended = guard.call(|| {
                    let mut output = MusterAnswer::default();
                    let arguments = MusterText::of(task.arguments());
                    let mut task = MusterTask { task, guard: &guard };
                    // SAFETY: the header's contract of the function.
                    let exit_code =
                        unsafe { function(context.pointer(), &raw mut task, arguments, &raw mut output) };
                    TaskEnd { exit_code, output: output.0 }
                });
                ended.unwrap_or(TaskEnd { exit_code: 75, output: b"the program ends".to_vec() })
            });
        }
        Ok(application)
    }
}

fn artifact_of(number: i32) -> Result<ArtifactUse, String> {
    match number {
        0 => Ok(ArtifactUse::None),
        1 => Ok(ArtifactUse::Any),
        2 => Ok(ArtifactUse::Signed),
        _ => Err(format!("{number} is no use of an artifact: 0 to 2 are")),
    }
}

fn condition_of(number: i32) -> Condition {
    match number {
        0 => Condition::Running,
        1 => Condition::Stopped,
        2 => Condition::Failed,
        _ => Condition::Unknown,
    }
}

/// Adds to an answer.
///
/// # Safety
/// The answer is that of the function which calls this, and the text is as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_answer_write(answer: *mut MusterAnswer, text: MusterText) {
    // SAFETY: the caller's word.
    let Some(answer) = (unsafe { answer.as_mut() }) else { return };
    // SAFETY: the caller's word.
    let bytes = unsafe { text.to_bytes() };
    let room = ANSWER_BYTES_MAX.saturating_sub(answer.0.len());
    answer.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Says how far a task is.
///
/// # Safety
/// The task is that of the function which calls this, and the text is as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_task_progress(task: *mut MusterTask<'_>, percent: u8, message: MusterText) {
    // SAFETY: the caller's word.
    let Some(task) = (unsafe { task.as_ref() }) else { return };
    // SAFETY: the caller's word.
    let message = unsafe { message.to_bytes() };
    let say = || task.task.progress(percent, &String::from_utf8_lossy(&message));
    // Progress that is not told is missed by nobody.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(say));
}

/// Whether a task should end.
///
/// # Safety
/// The task is that of the function which calls this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_task_is_cancelled(task: *mut MusterTask<'_>) -> i32 {
    // SAFETY: the caller's word.
    let Some(task) = (unsafe { task.as_ref() }) else { return 0 };
    i32::from(task.guard.is_ending.load(Ordering::Relaxed) || task.task.is_cancelled())
}

/// The path of a task's file.
///
/// # Safety
/// The task is that of the function which calls this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn muster_task_artifact(task: *mut MusterTask<'_>) -> MusterText {
    // SAFETY: the caller's word.
    let path = unsafe { task.as_ref() }.and_then(|task| task.task.artifact()?.to_str());
    MusterText::of(path.unwrap_or_default())
}
