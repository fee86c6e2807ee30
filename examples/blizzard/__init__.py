"""The blizzard of February 2013: every cancelled flight out of New York gets a workflow that rebooks its passengers.

Read in this order:

- `flights`: the data, and how many people sit in an aircraft.
- `desk`: which free seats each cancelled flight may use, and the parties that are booked on it.
- `workflow`: the plan, the tasks, and what is told of each workflow.
- `ledger`: an outside system, in which a seat can be taken only once.
- `report`: a topology that adds up the events of the workflows.
- `apps`: the three applications and where they run.
- `run`: all of it together; `manager` and `worker` are its parts as processes of their own.
"""
