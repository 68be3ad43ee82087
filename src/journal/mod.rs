//! Floor 3: the event log of the server and the spool of the agent.
