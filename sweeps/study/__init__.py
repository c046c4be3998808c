"""The protocol of a sweep: who claims, keeps, loses, takes over, ends and stops.

All workers of a sweep share an Optuna study, whose storage may be away; a lock of the study,
which may be let go; and the directories of the trials' records. Nothing else is asked of them.

Claim. Under the lock a worker reads the trials and takes the first of: a running trial that is
its own already (it was begun, and the answer was lost), one that waits, a new one if the budget
has units left, a confirmation. A trial has its owner from its first moment: a new one is created
running with its lease, one that waits gets the lease before it runs. A unit of the budget is a
chain: a trial and its retries are one. Where the lock does not reach everybody, two may take the
last unit: the lower number stays, and the other trial is superseded. Of two that take what waits
the storage refuses one, which leaves it, even if its lease was written last.

Keep. A lease names the process (host, machine, boot, namespace of process numbers, number, time
of birth) and a counter; every `HEARTBEAT` the counter grows. Nobody compares clocks.

Lose. Whoever watches takes a trial for abandoned if its process is known to be gone, or if the
counter stood still for `LEASE_TIMEOUT`. Only that time counts which lies between two successful
writes of the watcher, one soon after another: while nobody can write, or the watcher is frozen
itself, nobody falls silent.

Take over, under the lock: look again; mark the trial; look again, since the mark may have taken
its time; end it as failed, after which Optuna refuses what its old owner writes; make a clone
that waits. Whoever dies between leaves a mark, and the next who claims makes the clone. The clone
has a higher number: this is the fencing token. Who trains it writes the number into the record's
directory, and every file of a record is put in its place only by who wrote the highest number
(`experiments.record.fence`). A worker that finds itself superseded ends its training and says
nothing. A trial has no clone after more than `sweep.max_retries` deaths in a row without a report
between. Those before it began and those that its command is known to have shared do not count among
them; of these it may have `DEATHS_TOGETHER`.

End. What a job raises or returns is the trial's affair and costs no other, unless it says that the
disk is full. The result is told before anything that can fail afterwards. A result that is on the
disk but was not told is told by the retry, which does not train again. Trials are ordered by their
ends through a counter that grows with each end that whoever ends one can see.

A record has a lock of its own, held while one file is put in its place. Who finds it locked for
longer, by a process that is frozen in between, tries again and then gives the trial back; a frozen
process that lost its trial is killed where that can be done.

Give back. A worker that is asked to stop ends its epoch, writes a checkpoint and lets the trial
wait, if the trial is still its own. So does one whose disk is full; then it ends. One that cannot
reach the storage for `RETRY_WINDOW` ends, and its trial is taken over.

Wait. A worker leaves only when nothing waits, nothing is left of the budget, and no trial is
running that belongs to its own command or whose owner has not been heard; it may be the one that
has to take it over. A command ends only when all that holds for it too. It starts another worker
for each that dies, until more than `DEATHS_IN_A_ROW` for each worker have died with no trial
ended between, and ends its own workers that are stopped for longer than a trial would wait. A
deadline is one of the command's clock, and the command tells its workers when it has passed.

What holds by this, under which faults, is checked by tests/simulation, in whose world these very
classes run. All waits are in `sweeps.bounds`.

From top to bottom: `supervision` (rounds of workers, and a look at them), `execution` (a worker's
way with a trial), `claims`, `proposals` (its parameters), `stopping`, `recovery`, `leases`,
`counts`, `definition` (what a study searches); in other rooms `storage.attributes` (what is kept
with trials), `storage.private` (Optuna's own), `sweeps.system` (the machine).
"""
