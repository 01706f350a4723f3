/*
 * Lease mode: lease.sql.ts, acquire-lease.ts, lease.engine.ts, lease-attempt.ts, phase.ts, heartbeat.ts and the reaper. Every step
 * of a process is one statement. The handler is a step that calls another system, a phase behind it, and an answer. See docs/model.md.
 */
#include "protocol.pmh"

/* onAbandoned of the route: 'retry', or 'fail'. */
bit retryAbandoned;

/* The record, as committed. `left` is `abandoned = -1`: its attempt has given it up. */
byte status, attempt, abandoned, born, response;
bit fingerprint, expired, left;
/* lease_until: null, in the future or in the past of the database's clock. */
#define NO_LEASE 0
#define RUNNING 1
#define OVER 2
byte lease;
/* The journal: the step's entry, and the attempt that has made the phase's. */
bit stepEntry;
byte phaseEntry;
/* FOR NO KEY UPDATE: the caller whose phase holds the row, plus one. */
byte holder;
/* created_at of the next record: the database's clock, in births. */
byte births;

/* The attempt: its number, and when its record began. */
byte number[CALLERS], birth[CALLERS];
/* Its process is still at it. */
bit alive[CALLERS];
/* The process's own clock says that its lease runs for certain. */
bit certain[CALLERS];
/* It renews its lease in the background, and a renewal is on the wire. */
bit beating[CALLERS], beat[CALLERS];

/* A statement on the wire of which nobody hears: it arrives at any time, or never. */
#define NOTHING 0
#define JOURNAL 1
#define COMPLETE 2
#define ABANDON 3
#define RELEASE 4
byte wire[CALLERS];

/* A phase's connection. */
#define CLOSED 0
#define OPEN 1 /* the phase holds the row */
#define SENT 2 /* its COMMIT is on the wire, and nobody hears of it */
#define LOST 3 /* PostgreSQL has not noticed yet */
byte link[CALLERS];

/* A call to the other system on the wire, of which nobody hears. Its downstream key is that of the record's birth. */
bit call[CALLERS];
/* The downstream keys that have acted: each acts once. */
byte acted;

/* Only the properties ask for these. A life of the key ends when a final record has expired, or one under which nothing was done. */
byte charges;      /* effects at the other system */
byte phaseRows;    /* commits of the phase's rows */
byte recorded;     /* the response of this life */
bit asked;         /* the payload of this life */
bit entered;       /* the handler was called */
byte takeovers;    /* of attempts in a row that did not give their record up themselves */
bit mine[CALLERS]; /* the attempt's outcome is recorded */

#define RESPONSE(me) (number[me] * 4 + me + 1)

#define LIVES(me) (status == PENDING && attempt == number[me] && born == birth[me] && !left)
#if defined(MUTANT_NO_BIRTH)
#define FENCE(me) (status == PENDING && attempt == number[me] && !left)
#elif defined(MUTANT_ABANDON_UNMARKED)
#define FENCE(me) (status == PENDING && attempt == number[me] && born == birth[me])
#else
#define FENCE(me) LIVES(me)
#endif
#ifdef MUTANT_NO_FENCE
#define MAY_COMPLETE(me) (status != NONE)
#else
#define MAY_COMPLETE(me) FENCE(me)
#endif

/* Whether a failed attempt must leave its record as it is. */
#if defined(MUTANT_RELEASE_AFTER_STEP)
#define MAY_HAVE_EFFECT (!retryAbandoned && began)
#elif defined(MUTANT_RELEASE_AFTER_TAKEOVER)
#define MAY_HAVE_EFFECT (mayHaveActed || seenStep || seenPhase || (!retryAbandoned && began))
#else
#define MAY_HAVE_EFFECT (mayHaveActed || seenStep || seenPhase || (!retryAbandoned && began) || resumed)
#endif

/* The record tells of what was done, and of nothing else. */
inline consistent() {
  P2(status == NONE || (phaseRows == 1) == (phaseEntry != 0));
  P2(status != COMPLETED || (charges == 1 && phaseRows == 1));
  P3(response == recorded)
}

/* What was begun and not finished is never forgotten. */
inline endLife() {
  P7(recorded || (charges == 0 && phaseRows == 0 && (retryAbandoned || !entered)));
  if
  :: recorded || charges + phaseRows == 0 -> charges = 0; phaseRows = 0; recorded = 0; entered = 0; takeovers = 0
  :: else
  fi
}

inline deleteRecord() {
  endLife();
  status = NONE; attempt = 0; abandoned = 0; left = 0; born = 0; response = 0; fingerprint = 0; expired = 0;
  lease = NO_LEASE; stepEntry = 0; phaseEntry = 0; asked = 0;
  /* Nobody remembers a birth: the clock may begin anew, and there are fewer states. */
  if :: birth[0] + birth[1] + birth[2] == 0 -> births = 0; acted = 0 :: else fi
}

/* Time cannot end what lease mode has not finished. */
#ifdef MUTANT_REAP_PENDING
#define EXPIRED (status != NONE && expired)
#define MAY_EXPIRE (status != NONE)
#else
#define MAY_EXPIRE (status == COMPLETED || status == ERROR)
#define EXPIRED (status != NONE && expired && (status != PENDING || lease == NO_LEASE))
#endif

#ifdef MUTANT_FAIL_RUNS_AGAIN
#define RETRIED true
#else
#define RETRIED retryAbandoned
#endif
#ifdef MUTANT_TAKEOVER_WHILE_LEASED
#define LEASE_IS_OVER (lease != NO_LEASE)
#else
#define LEASE_IS_OVER (lease == OVER)
#endif
#define TAKEN_OVER (RETRIED && (left || abandoned + 1 < MAX_ATTEMPTS))

#define CLAIMABLE(payload) (status == NONE || (holder == 0 && (EXPIRED || (fingerprint == payload && \
  ((status == ERROR && !response) || (status == PENDING && (lease == NO_LEASE || (LEASE_IS_OVER && TAKEN_OVER))))))))

/* CLAIM */
inline takeRecord(payload) {
  if
  :: status == NONE ->
    births++; born = births; attempt = 1; fingerprint = payload; asked = payload; resumed = 0
  :: status != NONE && EXPIRED ->
    endLife();
    births++; born = births; attempt++; fingerprint = payload; asked = payload; resumed = 0;
    abandoned = 0; stepEntry = 0; phaseEntry = 0
  :: status != NONE && !EXPIRED ->
    resumed = (status == PENDING);
    ALONE(status != PENDING || lease == OVER);
    P5(payload == asked);
    if
    :: status == PENDING && !left ->
#ifndef MUTANT_TAKEOVER_UNCOUNTED
      abandoned++;
#endif
      takeovers++; BOUNDED(takeovers < MAX_ATTEMPTS)
    :: else -> abandoned = 0; takeovers = 0
    fi;
    attempt++
  fi;
  if :: !resumed -> expired = 0 :: else fi;
  status = PENDING; left = 0; response = 0; lease = RUNNING;
  consistent()
}

/* A statement of the attempt, each with the fence in its WHERE. */
inline execute(me, statement) {
  fits = 1;
  if
  :: statement == JOURNAL && FENCE(me) ->
    FENCED(LIVES(me));
    lease = RUNNING; stepEntry = 1
  :: statement == COMPLETE && MAY_COMPLETE(me) ->
    FENCED(LIVES(me));
    P3(recorded == 0);
    status = COMPLETED; response = RESPONSE(me); recorded = response; mine[me] = 1;
    abandoned = 0; left = 0; lease = NO_LEASE; expired = 0
  :: statement == ABANDON && FENCE(me) ->
    FENCED(LIVES(me));
    lease = OVER; abandoned = 0; left = 1
  :: statement == RELEASE && FENCE(me) ->
    FENCED(LIVES(me));
    P7(charges == 0 && phaseRows == 0 && (retryAbandoned || !entered));
    status = ERROR; abandoned = 0; lease = NO_LEASE; takeovers = 0
  :: else -> fits = 0
  fi;
  consistent()
}

#ifdef MUTANT_DOWNSTREAM_KEY_PER_ATTEMPT
#define DOWNSTREAM_KEY(me) (1 << number[me])
#else
#define DOWNSTREAM_KEY(me) (1 << birth[me])
#endif

/* The end of a phase's transaction. */
inline letGo(me) {
  link[me] = CLOSED;
  if :: holder == me + 1 -> holder = 0 :: else fi
}

/* COMMIT of a phase, behind JOURNAL_PHASE with its `1 / count(*)`. */
inline commitPhase(me) {
  if
#ifdef MUTANT_PHASE_UNFENCED
  :: status != NONE ->
#else
  :: FENCE(me) && phaseEntry == 0 ->
#endif
    FENCED(LIVES(me));
    phaseEntry = number[me]; lease = RUNNING;
    phaseRows++; P1(phaseRows == 1);
    fits = 1
  :: else -> fits = 0
  fi;
  letGo(me);
  consistent()
}

/* The other system acts. */
inline charge(me) {
  if
  :: acted & DOWNSTREAM_KEY(me)
  :: else -> acted = acted | DOWNSTREAM_KEY(me); charges++; P1(charges == 1)
  fi
}

/* Of an attempt that is over, nothing is kept: fewer states tell the same. */
#define QUIET(me) (wire[me] == NOTHING && !call[me] && !beat[me] && link[me] == CLOSED)
inline tidy(me) {
  if
  :: !alive[me] && QUIET(me) -> number[me] = 0; birth[me] = 0; mine[me] = 0
  :: else
  fi
}

/* The other ends of a caller's connections, and its heartbeat. */
proctype Backend(byte me) {
  bit fits;

end:
  do
  :: d_step { wire[me] && holder == 0 -> execute(me, wire[me]); wire[me] = NOTHING; fits = 0; tidy(me) }
  :: d_step { wire[me] -> wire[me] = NOTHING; tidy(me) }
  :: d_step { link[me] == SENT -> commitPhase(me); fits = 0; tidy(me) }
  :: d_step { link[me] == SENT || link[me] == LOST -> letGo(me); tidy(me) }
  :: d_step { call[me] -> charge(me); call[me] = 0; tidy(me) }
  :: d_step { call[me] -> call[me] = 0; tidy(me) }
  /* RENEW, which may be on the wire for long, or be lost there. */
  :: d_step { beating[me] && !certain[me] && !beat[me] && link[me] == CLOSED -> beat[me] = 1 }
  :: d_step { beat[me] && holder == 0 ->
      beat[me] = 0;
      if
      :: FENCE(me) -> FENCED(LIVES(me)); lease = RUNNING; certain[me] = beating[me]
      :: else -> beating[me] = 0
      fi;
      tidy(me) }
  :: d_step { beat[me] && !beating[me] -> beat[me] = 0; tidy(me) }
  /* The process is frozen for as long as its lease; or its maxRuntime is over, and the handler goes on. */
  :: d_step { certain[me] && FAULT; certain[me] = 0 }
  :: d_step { certain[me] && FAULT; certain[me] = 0; beating[me] = 0 }
  od
}

/* A process counts its lease from before it asked for it: whoever is certain has one. */
#ifdef MUTANT_OWNER_CLOCK
#define CERTAIN(me) false
#else
#define CERTAIN(me) (certain[me] && LIVES(me))
#endif

/* The database's time, and the reaper. */
proctype Clock() {
end:
  do
  :: d_step { lease == RUNNING && !closing && !CERTAIN(0) && !CERTAIN(1) && !CERTAIN(2) -> lease = OVER }
  /* Of a pending record it would be seen only when that is released: then is early enough. */
  :: d_step { MAY_EXPIRE && !expired && expiries > 0 && !closing -> expiries--; expired = 1 }
  :: d_step { EXPIRED && holder == 0 && !closing -> deleteRecord() }
  od
}

#ifdef MUTANT_REPLAY_ANY_PAYLOAD
#define SAME(payload) true
#else
#define SAME(payload) (fingerprint == payload)
#endif

/* READ */
inline readRecord(payload) {
  if
  :: status == NONE -> seen = ABSENT
  :: status != NONE && EXPIRED -> seen = IN_FLIGHT
  :: status != NONE && !EXPIRED && !SAME(payload) -> seen = REUSED
  :: status != NONE && !EXPIRED && SAME(payload) && response ->
    seen = FINAL;
    P3(response == recorded);
    P5(payload == asked)
  :: status != NONE && !EXPIRED && SAME(payload) && !response && status == ERROR -> seen = RELEASED
  :: status != NONE && !EXPIRED && SAME(payload) && status == PENDING ->
    seen = (lease == OVER -> (TAKEN_OVER -> TAKEABLE : UNOWNED) : IN_FLIGHT)
  fi
}

inline forget() {
  d_step { seen = UNREAD; fits = 0; began = 0; resumed = 0; mayHaveActed = 0; seenStep = 0; seenPhase = 0; repeated = 0; settling = 0; giving = 0 }
}

/* The process dies, or is done with the attempt. */
inline leave(me) {
  d_step {
    if :: link[me] == OPEN -> link[me] = LOST :: else fi;
    certain[me] = 0; beating[me] = 0; alive[me] = 0;
    tidy(me)
  }
  forget()
}

proctype Caller(byte me; bit payload; bit last) {
  byte seen, round, giving;
  bit fits, began, resumed, mayHaveActed, seenStep, seenPhase, repeated, settling;

claim:
  if
  :: atomic { CLAIMABLE(payload) ->
      d_step { takeRecord(payload);
      number[me] = attempt; birth[me] = born; mine[me] = 0;
      wire[me] = NOTHING; call[me] = 0; beat[me] = 0;
      certain[me] = 1; beating[me] = 1; alive[me] = 1;
      seenStep = stepEntry; seenPhase = (phaseEntry != 0) }
      goto attempts }
  /* Its answer is lost: it stays, and its lease runs out. */
  :: atomic { CLAIMABLE(payload) && FAULT; d_step { takeRecord(payload) } goto unanswered }
  /* Not free; or not in the statement's snapshot, or held for a moment. */
  :: atomic { !last || !CLAIMABLE(payload) -> skip }
  :: atomic { FAULT; goto unanswered }
  fi;

look:
  atomic {
    readRecord(payload);
    if :: last -> round++; P4(round <= 6) :: else fi
  }
unheld: /* A phase renews its lease with its commit only. */
  atomic {
    if
    :: seen == UNOWNED || seen == TAKEABLE ->
      if
      :: holder == 0 && status == PENDING && lease == OVER
      :: else -> seen = IN_FLIGHT
      fi
    :: else
    fi };
  atomic {
    if
    :: seen == ABSENT || seen == RELEASED || seen == TAKEABLE ->
      seen = UNREAD;
      if :: settling -> settling = 0; goto unanswered :: else -> goto claim fi
    :: seen == IN_FLIGHT -> goto unanswered
    :: seen == REUSED -> goto answered
    :: seen == UNOWNED ->
      P4(!last || !retryAbandoned || takeovers + 1 >= MAX_ATTEMPTS);
      goto answered
    :: seen == FINAL -> goto answered
    fi }

attempts:
  if
  :: atomic { d_step {
      began = 1;
      if
      :: LIVES(me) -> P7(retryAbandoned || !entered); entered = 1
      :: else
      fi } }
  /* A pipe refuses the body. */
  :: atomic { FAULT; goto giveBack }
  :: atomic { FAULT; goto unanswered }
  fi;

step:
  if
  :: seenStep -> goto phase
  :: atomic { !seenStep && certain[me] -> d_step {
      ALONE(LIVES(me));
      STEP_ONCE(phaseRows == 0);
      mayHaveActed = 1 } }
  :: atomic { !seenStep && !certain[me] && !beating[me] -> goto giveBack }
  /* The handler throws. */
  :: atomic { FAULT; goto giveBack }
  :: atomic { FAULT; goto unanswered }
  fi;
  if
  :: atomic { d_step { charge(me) }
#ifdef MUTANT_STEP_UNJOURNALED
      goto phase
#endif
    }
  /* It fails, or is not answered; and may have acted, or act later. */
  :: atomic { FAULT; goto giveBack }
  :: atomic { FAULT; d_step { call[me] = 1 } goto giveBack }
  :: atomic { FAULT; d_step { call[me] = 1 } goto unanswered }
  fi;

journal:
  if
  :: atomic { holder == 0 -> d_step {
        execute(me, JOURNAL);
        if :: fits -> seenStep = 1; certain[me] = beating[me] :: else fi }
      if :: fits -> fits = 0 :: else -> goto giveBack fi }
  :: atomic { FAULT; wire[me] = JOURNAL; goto journal }
  :: atomic { FAULT; wire[me] = JOURNAL; goto giveBack }
  :: atomic { FAULT; wire[me] = JOURNAL; goto unanswered }
  :: atomic { FAULT; goto unanswered }
  fi;

phase:
  if
  :: seenPhase -> goto complete
#ifdef MUTANT_PHASE_UNFENCED
  :: atomic { !seenPhase -> link[me] = OPEN }
#else
  :: atomic { !seenPhase && certain[me] && holder == 0 && !beat[me] && FENCE(me) -> d_step { link[me] = OPEN; holder = me + 1 } }
  :: atomic { !seenPhase && certain[me] && holder == 0 && !beat[me] && !FENCE(me) -> goto giveBack }
#endif
  :: atomic { !seenPhase && !certain[me] && !beating[me] -> goto giveBack }
  :: atomic { FAULT; goto giveBack }
  :: atomic { FAULT; goto unanswered }
  fi;
  if
  :: atomic { link[me] == OPEN -> d_step {
        commitPhase(me);
        if :: fits -> seenPhase = 1; certain[me] = beating[me] :: else fi }
      if :: fits -> fits = 0; goto complete :: else -> goto giveBack fi }
  /* Its code throws, or its connection is gone. */
  :: atomic { FAULT; d_step { letGo(me) } goto giveBack }
  :: atomic { FAULT; link[me] = LOST; goto giveBack }
  /* The answer to COMMIT is lost; or the process dies before it comes. */
  :: atomic { FAULT; link[me] = SENT }
  :: atomic { FAULT; link[me] = SENT; goto unanswered }
  :: atomic { FAULT; goto unanswered }
  fi;
  /* PHASE_OVER and PHASE_FOUND */
  if
  :: atomic { holder == 0 && phaseEntry == number[me] -> seenPhase = 1 }
  :: atomic { holder == 0 && phaseEntry != number[me] -> goto giveBack }
  :: atomic { holder != 0 -> mayHaveActed = 1; goto giveBack }
  :: atomic { FAULT; goto unanswered }
  fi;

complete:
  if
  :: atomic { holder == 0 -> d_step { execute(me, COMPLETE) }
      if
      :: fits -> goto executed
#ifdef MUTANT_STALE_IS_OWN
      :: !fits -> goto executed
#endif
      :: !fits && !repeated -> goto adopt
      :: !fits && repeated
      fi }
  :: atomic { FAULT; wire[me] = COMPLETE; repeated = 1; goto complete }
  :: atomic { FAULT; wire[me] = COMPLETE; goto unanswered }
  :: atomic { FAULT; goto unanswered }
  fi;
  /* WRITTEN: its own first try, or another attempt's. */
  if
  :: atomic { status != NONE && attempt == number[me] && born == birth[me] -> goto executed }
  :: atomic { !(status != NONE && attempt == number[me] && born == birth[me]) -> goto adopt }
  :: atomic { FAULT; goto unanswered }
  fi;

giveBack:
  atomic { d_step {
    certain[me] = 0; beating[me] = 0; fits = 0;
    giving = (MAY_HAVE_EFFECT -> ABANDON : RELEASE)
  } };
give:
  if
  :: atomic { holder == 0 -> d_step { execute(me, giving) }
      if
      :: fits -> goto unanswered
      :: !fits && !repeated -> goto adopt
      :: !fits && repeated
      fi }
  :: atomic { FAULT; wire[me] = giving; repeated = 1; goto give }
  :: atomic { FAULT; wire[me] = giving; goto unanswered }
  :: atomic { FAULT; goto unanswered }
  fi;
  if
  :: atomic { status != NONE && attempt == number[me] && born == birth[me] -> goto unanswered }
  :: atomic { !(status != NONE && attempt == number[me] && born == birth[me]) -> goto adopt }
  fi;

adopt: /* What stands in the record is the answer. */
  atomic { d_step { certain[me] = 0; beating[me] = 0 } forget(); settling = 1; goto look }

executed: /* The caller gets the answer that it has captured. */
  atomic { P3(mine[me]); goto answered }

unanswered: /* Nothing final: the caller may ask again. */
  atomic { P4(!last); leave(me) }
  if
  :: atomic { retries > 0 -> retries-- } goto claim
  :: goto answered
  fi;

answered:
  atomic { leave(me); finished++ }
}

init {
  atomic {
    if :: retryAbandoned = 0 :: retryAbandoned = 1 fi;
    run Backend(0); run Backend(1); run Backend(2); run Clock();
    run Caller(0, 0, 0);
#ifdef PAIR
    finished = 1;
#else
    run Caller(1, 0, 0);
#endif
    if :: run Caller(2, 0, 0) :: run Caller(2, 1, 0) fi
  }
  /* Nothing goes wrong any more, and the lease of the dead is over: then one request, of either payload, is answered for good. */
  atomic {
    finished == CALLERS && QUIET(0) && QUIET(1) && QUIET(2) && lease != RUNNING -> closing = 1;
    if :: run Caller(0, 0, 1) :: run Caller(0, 1, 1) fi
  }
  finished == CALLERS + 1
}
