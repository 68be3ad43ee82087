//! Lives: the functions through which an event, a sync, a task and a wake go, from the first to the last.
//!
//! For reading along in the source. A step is `file::function`, the file below `src/`. A test (`tests/tidy`)
//! looks whether each is there, and counts the files that a list enters, and how often it returns to one that
//! it has left: many of either make a path that is hard to follow.
//!
//! The lists after the first leave out what every message takes: from the socket to
//! `machine/endpoint/frame.rs::handle_frame`, and from `machine/endpoint/mod.rs::transmit` to the socket.
//!
//! # An event on its device
//!
//! 17 files, 5 returns: from `muster-agent emit` to the socket.
//!
//! 1. `agent/cli/control.rs::emit` makes a line of the arguments, and finds the running agent.
//! 2. `agent/local/client.rs::emit` writes it to the agent's Unix socket and waits for the answer.
//! 3. `agent/run/mod.rs::turn` is one turn of the agent's only thread.
//! 4. `agent/run/programs.rs::hear_programs` takes the lines of all programs.
//! 5. `agent/local/protocol.rs::parse` checks the event, mends what can be mended, encodes it.
//! 6. `agent/spool/mod.rs::append` gives it the next sequence number, and makes room within its severity's
//!    quota.
//! 7. `agent/spool/severity_queue.rs::append` is the queue of that severity, a journal as the server's.
//! 8. `journal/handle.rs::append` copies it into the tail.
//! 9. `agent/spool/mod.rs::flush` comes once a turn, for everything that was appended.
//! 10. `journal/tail_writer.rs::flush_once` makes it durable.
//! 11. `agent/local/server.rs::send` answers the program. `emit` returns.
//! 12. `machine/agent/mod.rs::events_available` tells the machine of the number.
//! 13. `machine/agent/link.rs::advance` connects, if there is no link.
//! 14. `machine/agent/mod.rs::read_spool` asks for events, while the window has room.
//! 15. `agent/run/mod.rs::act` does what the machine asks for.
//! 16. `agent/spool/mod.rs::read` reads behind the last number that was sent.
//! 17. `machine/agent/mod.rs::spool_read` hands them to the sender.
//! 18. `machine/agent/events.rs::read` puts a message together, up to 32 KiB.
//! 19. `agent/run/server.rs::send` takes the frame.
//! 20. `agent/run/connection.rs::send` finds the link.
//! 21. `agent/link.rs::send` hands it to the channel.
//! 22. `reactor/channel/mod.rs::write_plain` protects it. It leaves with the next look at the socket.
//!
//! # An event on the server
//!
//! 34 files, 15 returns: from the socket to the acknowledgement on it.
//!
//! 1. `reactor/waiting.rs::wait` polls, and notes which links are ready.
//! 2. `reactor/turn.rs::read` goes through them, 512 in a turn.
//! 3. `reactor/drive.rs::read_link` reads one.
//! 4. `reactor/channel/server_channel.rs::read_from` reads the socket, up to 64 KiB.
//! 5. `record_layer/opening.rs::open` opens one TLS record after the other.
//! 6. `reactor/drive.rs::take_frames` goes through what that gave.
//! 7. `wire/frame.rs::split` finds the next whole frame.
//! 8. `machine/endpoint/frame.rs::handle_frame` is where the pure part begins.
//! 9. `wire/message/to_server.rs::from_body` decodes the message; the events in it stay as they are.
//! 10. `machine/rate.rs::cost_microseconds` says what it takes from its device's allowance.
//! 11. `machine/endpoint/links.rs::adopt` makes the link the device's, with its first word.
//! 12. `server/backend.rs::record` gets the device's record.
//! 13. `store/devices/table.rs::lock` locks it until what follows is appended and noted.
//! 14. `machine/session.rs::handle` looks whether the message fits the state of the link.
//! 15. `machine/session/events.rs::take` judges each event: new, repeated, contradicted, held back.
//! 16. `machine/rate/events.rs::admits` says how many of them the device's rate of the log lets in.
//! 17. `machine/device_state.rs::judge` compares number and checksum with the last one stored.
//! 18. `machine/endpoint/frame.rs::append_all` appends what is new.
//! 19. `server/backend.rs::append` calls the journal.
//! 20. `machine/record.rs::encode` puts the spool's epoch before the event.
//! 21. `journal/handle.rs::append` takes the tail's lock.
//! 22. `journal/tail.rs::append` makes the record with its checksum.
//! 23. `journal/region.rs::push` copies it into the mapped tail.
//! 24. `machine/device_state.rs::note_appended` makes it the last one stored.
//! 25. `machine/acks.rs::push` has the acknowledgement wait for the journal's position.
//! 26. `machine/endpoint/execute.rs::execute` does the rest of what the session wants; mostly nothing.
//! 27. `reactor/drive.rs::carry_out` asks the endpoint for the next step, and counts.
//! 28. `reactor/turn.rs::flush` comes behind all reads of the turn, for all that was appended.
//! 29. `reactor/commit.rs::flush` does it in this thread if that would only wait.
//! 30. `server/backend.rs::flush_here` calls the journal.
//! 31. `journal/leader.rs::flush_here` asks whether the disk is quick.
//! 32. `journal/leader.rs::try_lead` takes flush leadership, unless another thread has it and tells when
//!     it ends.
//! 33. `journal/tail_writer.rs::flush_once` takes all that waits, of every thread.
//! 34. `journal/files.rs::write_durable` finds the segment's file.
//! 35. `journal/direct.rs::write_durable` is one direct `pwritev2` with `RWF_DSYNC`.
//! 36. `journal/catalog.rs::publish` publishes the durable position.
//! 37. `journal/leader.rs::flush` gives leadership back, and tells.
//! 38. `server/event_log.rs::start` has been told where: its closure passes it on.
//! 39. `concurrency/reactors.rs::notify_waiting` goes through the reactors.
//! 40. `concurrency/mailbox.rs::notify_if_waiting` wakes those that wait for the position.
//! 41. `reactor/drive.rs::release_acks` comes behind the flush in each turn.
//! 42. `machine/endpoint/mod.rs::handle_durable` is told the durable position.
//! 43. `machine/acks.rs::release` gives one acknowledgement for each link that waited for it.
//! 44. `machine/endpoint/mod.rs::transmit` queues it to be sent.
//! 45. `reactor/drive.rs::send` takes it from there.
//! 46. `wire/message/to_agent.rs::write_to` encodes it.
//! 47. `reactor/channel/server_channel.rs::write_plain` keeps it with what leaves together.
//! 48. `record_layer/sealing.rs::data` seals it.
//! 49. `reactor/drive.rs::write` comes at the end of the turn.
//! 50. `reactor/channel/server_channel.rs::flush_to` writes to the socket.
//!
//! # An acknowledgement on the device
//!
//! 6 files, 0 returns: from the socket until the event is forgotten.
//!
//! 1. `agent/run/server.rs::hear_server` hears what has come.
//! 2. `agent/link.rs::next_message` decodes it.
//! 3. `machine/agent/messages.rs::acknowledged` looks what it means.
//! 4. `machine/agent/events.rs::acknowledge` moves the window.
//! 5. `agent/run/mod.rs::act` forgets through that number.
//! 6. `agent/spool/mod.rs::forget_through` deletes whole segments.
//!
//! # A sync in which nothing changed
//!
//! 14 files, 4 returns: on the server, from the frame to the answer.
//!
//! 1. `machine/endpoint/frame.rs::handle_frame` takes the frame.
//! 2. `wire/message/to_server.rs::from_body` decodes it.
//! 3. `machine/rate.rs::cost_microseconds` says what it costs.
//! 4. `machine/endpoint/links.rs::adopt` makes the link the device's.
//! 5. `server/backend.rs::record` gets the record,
//! 6. `store/devices/table.rs::lock` locked.
//! 7. `server/backend.rs::syncs` notes the sync,
//! 8. `server/presence/identity.rs::note_sync` to see when two devices have one identity.
//! 9. `server/backend.rs::policy` works out what is answered: interval, slot, whether the link stays.
//! 10. `fleet/pacing.rs::next_seconds` gives the device its slot.
//! 11. `machine/session.rs::handle` looks what it is.
//! 12. `machine/session/sync.rs::begin` compares each digest with the record.
//! 13. `machine/reach.rs::note_reach` notes how the device is reached.
//! 14. `machine/session/sync.rs::finish` answers `InSync`.
//! 15. `server/backend.rs::settle` looks whether that changes its presence,
//! 16. `server/presence.rs::settle` which is an event of the server's own.
//! 17. `machine/endpoint/execute.rs::execute` sends the answer,
//! 18. `machine/endpoint/mod.rs::transmit` behind all that was said before.
//!
//! # A sync in which the inventory changed
//!
//! 20 files, 11 returns: on the server, from the sync to the answer.
//!
//! 1. `machine/endpoint/frame.rs::handle_frame` takes the frame,
//! 2. `wire/message/to_server.rs::from_body` decodes it.
//! 3. `machine/session.rs::handle` looks what it is.
//! 4. `machine/session/sync.rs::begin` asks for the section, from the base that both know.
//! 5. `machine/endpoint/execute.rs::execute` sends `Want`. The device sends parts.
//! 6. `machine/endpoint/frame.rs::asks_for_worker` sees by its first bytes that a part needs a worker.
//! 7. `machine/permits.rs::try_take` gives a permit, or the link is not read.
//! 8. `machine/session/sync.rs::take_part` looks whether it was asked for.
//! 9. `machine/session/upload.rs::take` keeps it; `finish` makes one change of all parts.
//! 10. `machine/endpoint/execute.rs::execute` puts the job out, with its permit.
//! 11. `reactor/drive.rs::carry_out` submits it.
//! 12. `server/backend.rs::submit` hands it in.
//! 13. `server/workers.rs::send` has room for 512 jobs and 64 MiB.
//! 14. `server/workers.rs::work` runs on a worker.
//! 15. `store/inventory/mod.rs::apply` does the heavy part there.
//! 16. `store/inventory/set.rs::prepare` proves the digest and works out the new set,
//! 17. `store/inventory/base.rs::choose` and the stored one that it differs from least.
//! 18. `store/writer.rs::submit` queues the rest for the store's writer.
//! 19. `store/writer.rs::commit` has everything that waits in one transaction.
//! 20. `store/inventory/mod.rs::write` writes the section's row.
//! 21. `store/inventory/set.rs::store` writes the set.
//! 22. `store/writer.rs::complete` is called after the commit.
//! 23. `store/devices/table.rs::with` tells the record of the new digest.
//! 24. `server/workers.rs::answer` sends the outcome, and the permit with it.
//! 25. `concurrency/reactors.rs::send` finds the link's reactor.
//! 26. `concurrency/mailbox.rs::send` queues and wakes.
//! 27. `reactor/turn.rs::empty_mailbox` takes it out.
//! 28. `reactor/drive.rs::job_done` counts it.
//! 29. `machine/endpoint/mod.rs::handle_outcome` finds the session.
//! 30. `machine/session.rs::job_done` looks whose outcome it is.
//! 31. `machine/session/sync.rs::job_done` answers `InSync` when nothing is left: then also the desired state
//!     is known,
//! 32. `store/desired_state.rs::desired_state` which a worker works out when its digest differs.
//! 33. `machine/endpoint/mod.rs::transmit` sends it.
//!
//! # A task
//!
//! 42 files, 18 returns: from `musterctl task create` until the device forgets its run.
//!
//! 1. `client/cli/task/create.rs::run` reads the arguments.
//! 2. `client/mod.rs::create_task` asks the server.
//! 3. `client/connection.rs::ask` speaks HTTP on the Unix socket.
//! 4. `admin/conversation.rs::converse` serves one connection.
//! 5. `admin/tasks.rs::create` is the handler.
//! 6. `admin/blocking.rs::run` takes one of four threads that may wait.
//! 7. `store/tasks/mod.rs::create` waits for the writer.
//! 8. `store/tasks/create.rs::create` checks it by what devices declare, and writes it.
//! 9. `server/scheduler/mod.rs::tasks_changed` wakes the scheduler.
//! 10. `server/scheduler/tasks.rs::step` asks the store to do what is due.
//! 11. `store/tasks/mod.rs::step` does it in one transaction: so
//! 12. `store/tasks/due.rs::begin` finds tasks whose time has come,
//! 13. `store/tasks/due.rs::make` makes their runs, 250 in a step,
//! 14. `store/tasks/release.rs::release` releases them, as window and rate allow,
//! 15. `fleet/task/run.rs::release` by the rules of a run's life,
//! 16. `store/tasks/run.rs::save` writes the run,
//! 17. `store/desired_state.rs::refresh` and the device's new digest of what it is to have.
//! 18. `server/scheduler/notifications.rs::add` takes the device among those to be told.
//! 19. `server/scheduler/notifications.rs::send` calls a hundred in a round.
//! 20. `server/calls.rs::call` is a call without anybody who waits: see *A wake*. The device syncs.
//! 21. `machine/session/sync.rs::begin` sees that the digest differs.
//! 22. `server/workers.rs::work` works out what to tell,
//! 23. `store/desired_state.rs::desired_state` in portions of 128 KiB,
//! 24. `store/tasks/run.rs::desired_of` the runs among it.
//! 25. `machine/session/sync.rs::job_done` says them, and the list of all.
//! 26. `machine/agent/messages.rs::message` hears it on the device.
//! 27. `agent/run/mod.rs::act` hands it on.
//! 28. `agent/run/desired.rs::take_run` takes the order.
//! 29. `agent/task/plan.rs::plan` refuses what the device does not offer.
//! 30. `agent/task/run_store.rs::accept` keeps it durably; from then on it is *delivered*.
//! 31. `agent/task/execution.rs::work` begins it when it is its turn.
//! 32. `agent/task/execution.rs::start` writes the plan down and starts a supervisor.
//! 33. `agent/task/supervisor.rs::supervise` is a process of its own.
//! 34. `agent/task/program.rs::start` starts the program.
//! 35. `agent/task/supervisor.rs::watch` reads its output until it ends.
//! 36. `agent/task/output.rs::add` finds progress in it, and keeps beginning and end.
//! 37. `agent/task/supervisor.rs::finish` writes the result.
//! 38. `agent/task/files.rs::write` makes it durable.
//! 39. `agent/run/desired.rs::hear_run` hears the supervisor's line end.
//! 40. `agent/task/execution.rs::look` reads the result.
//! 41. `agent/task/run_store.rs::close` closes the run.
//! 42. `agent/task/report.rs::final_report` makes its report.
//! 43. `machine/agent/mod.rs::report_run` hands it to the machine.
//! 44. `machine/agent/reports.rs::next_message` puts it into a message.
//! 45. `machine/agent/link.rs::advance_link` sends that.
//! 46. `machine/endpoint/frame.rs::handle_frame` hears it on the server.
//! 47. `machine/session.rs::handle` makes it a job,
//! 48. `machine/session.rs::take_report` up to four of a link.
//! 49. `machine/endpoint/execute.rs::execute` puts it out, with a permit.
//! 50. `server/workers.rs::work` hands it to the store.
//! 51. `store/tasks/mod.rs::take_runs` queues it.
//! 52. `store/writer.rs::commit` runs it in a transaction.
//! 53. `store/tasks/run.rs::take` finds the run,
//! 54. `fleet/task/run.rs::report` and says what the report changes.
//! 55. `server/workers.rs::answer` sends the outcome.
//! 56. `concurrency/mailbox.rs::send` wakes the reactor.
//! 57. `reactor/turn.rs::empty_mailbox` takes it out.
//! 58. `reactor/drive.rs::job_done` counts it.
//! 59. `machine/endpoint/mod.rs::handle_outcome` finds the session.
//! 60. `machine/session.rs::job_done` acknowledges.
//! 61. `machine/agent/messages.rs::message` hears that on the device.
//! 62. `agent/run/desired.rs::runs_stored` forgets the run
//! 63. `agent/task/run_store.rs::stored` but for its tombstone,
//! 64. `agent/task/tombstones.rs::add` so that it is never executed again.
//!
//! # A wake
//!
//! 27 files, 15 returns: from `musterctl device sync --wait` until the sync that it asked for is told of.
//!
//! 1. `client/cli/sync.rs::run` asks for a call.
//! 2. `client/mod.rs::sync` begins it.
//! 3. `client/connection.rs::send` speaks HTTP on the Unix socket.
//! 4. `admin/conversation.rs::converse` serves one connection.
//! 5. `admin/calls.rs::call` is the handler; it takes one of 16 places of those who wait.
//! 6. `server/calls.rs::call` counts the devices, and has a million in all at most.
//! 7. `concurrency/mailbox.rs::send` queues for the UDP port's thread, and wakes it.
//! 8. `reactor/port.rs::run` is that thread's loop.
//! 9. `server/calls.rs::read` takes the message.
//! 10. `machine/wake_scheduler.rs::ask` queues the device.
//! 11. `server/calls.rs::poll` asks for the next step.
//! 12. `machine/wake_scheduler.rs::begin` begins a thousand calls a second.
//! 13. `server/calls.rs::look` says where the device is.
//! 14. `machine/reach.rs::wake_address` gives the address where it hears wakes.
//! 15. `machine/wake_scheduler.rs::found` decides: on its link, by wake, or why not.
//! 16. `machine/wake_scheduler.rs::wake` sends up to six, with pauses that double.
//! 17. `machine/reach.rs::next_wake_counter` draws the counter.
//! 18. `server/calls.rs::sealed` makes the datagram,
//! 19. `server/identity.rs::datagram_key` with the key of this device,
//! 20. `wire/datagram.rs::seal` authenticated.
//! 21. `reactor/port.rs::send` sends it,
//! 22. `reactor/udp.rs::send` from the server's UDP port.
//! 23. `agent/run/server.rs::hear_wakes` hears it on the device.
//! 24. `agent/datagram/mod.rs::hear` reads the socket.
//! 25. `wire/datagram.rs::open` verifies it.
//! 26. `agent/datagram/counters.rs::take_wake` takes each counter once, durably.
//! 27. `machine/agent/mod.rs::woken` wants a sync now.
//! 28. `machine/agent/link.rs::advance` connects,
//! 29. `agent/run/server.rs::connect` to the stored server and nowhere else:
//! 30. `agent/race.rs::step` tries its addresses.
//! 31. `reactor/accept.rs::accept_one` accepts on the server.
//! 32. `reactor/drive.rs::read_link` goes on with the handshake.
//! 33. `reactor/welcome.rs::finish_handshake` ends it: the device is looked up.
//! 34. `machine/agent/link.rs::begin_sync` names the wake's counter in the sync.
//! 35. `machine/endpoint/frame.rs::handle_frame` takes it.
//! 36. `machine/session/sync.rs::call_step` says that a device that is called has begun its sync, and then
//!     ended it.
//! 37. `machine/endpoint/execute.rs::execute` passes it on.
//! 38. `server/backend.rs::called` sends it to the UDP port's thread.
//! 39. `server/calls.rs::read` takes the message.
//! 40. `machine/wake_scheduler.rs::step` ends the call with the sync.
//! 41. `server/calls.rs::report` tells who waits.
//! 42. `admin/calls.rs::tell_outcomes` writes a line of the answer.
//! 43. `client/streams.rs::read` reads it.
#![forbid(unsafe_code)]
