/*
 * Transaction mode: idempotency.sql.ts, acquire.ts, idempotency.engine.ts, unknown-outcome.ts and the reaper. Every step of a
 * process is one statement, or one flush that PostgreSQL commits as one. See docs/model.md.
 */
#include "protocol.pmh"

/* The record, as committed. */
byte status, attempt, abandoned, born, response;
bit fingerprint, expired;
/* xmax: another transaction than the one that wrote this version has locked it. */
bit begun;
/* FOR UPDATE: the caller whose connection holds the row, plus one. */
byte holder;
/* xmin of a final record: the caller whose transaction has written it, plus one. */
byte writer;
/* created_at of the next record: the database's clock, in births. */
byte births;

/* A caller's connection in the attempt, and what the server does at its other end. */
#define CLOSED 0
#define LOOKING 1    /* holds the row, and no attempt has begun */
#define OPEN 2       /* the handler runs */
#define SENT 3       /* COMPLETE and COMMIT of a success are on the wire, and nobody hears of them */
#define SENT_ERROR 4 /* the same for a final error, whose rows are rolled back before */
#define CUT 5        /* the server has ended it; the process does not know yet */
byte link[CALLERS];
/* Nobody listens to it any more: the process has given it up, or is done with the attempt or dead. */
#define LEFT 1
#define DEAD 2
byte deserted[CALLERS];
/* The attempt: its number, and when its record began. */
byte number[CALLERS], birth[CALLERS];

/* A look's snapshot is taken before it locks: what happened to the row in between. */
#define UNCHANGED 1
#define REWRITTEN 2
#define DELETED 3
byte view[CALLERS];

/* Only the properties ask for these. A life of the key is what its callers know: it ends when a record has expired. */
byte effects;      /* committed in this life */
byte recorded;     /* the response of this life */
bit asked;         /* the payload of this life */
byte deaths;       /* of this life's handlers, since one of them came to an end */
bit overlooked;    /* a death that nobody can have counted, see docs/model.md */
byte running;      /* handlers whose connection is alive */
bit mine[CALLERS]; /* the attempt's outcome is committed */

#define RESPONSE(me) (number[me] * 4 + me + 1)

inline rewrote() {
  if :: view[0] == UNCHANGED -> view[0] = REWRITTEN :: else fi;
  if :: view[1] == UNCHANGED -> view[1] = REWRITTEN :: else fi;
  if :: view[2] == UNCHANGED -> view[2] = REWRITTEN :: else fi
}

/* The record tells of the effect, and of nothing else. */
inline consistent() {
  P2((effects == 1) == (status == COMPLETED));
  P3(response == recorded)
}

inline beginLife() {
  effects = 0; recorded = 0; deaths = 0; overlooked = 0
}

/* CLAIM's INSERT. */
inline makeRecord(payload) {
  births++;
  status = PENDING; attempt = 1; born = births; fingerprint = payload;
  asked = payload
}

inline deleteRecord() {
  status = NONE; attempt = 0; abandoned = 0; born = 0; response = 0; fingerprint = 0; expired = 0; begun = 0; writer = 0; asked = 0;
  /* Nobody remembers a birth: the clock may begin anew, and there are fewer states. */
  if :: birth[0] + birth[1] + birth[2] == 0 -> births = 0 :: else fi;
  if :: view[0] -> view[0] = DELETED :: else fi;
  if :: view[1] -> view[1] = DELETED :: else fi;
  if :: view[2] -> view[2] = DELETED :: else fi
}

/* RECLAIM. Its own lock moves along to the new version: nobody has begun on that. */
inline countAttempt(me, payload, count) {
  if
  :: status != NONE && attempt == number[me] ->
    if
    :: expired -> births++; born = births; asked = payload; beginLife()
    :: else
    fi;
    status = PENDING; attempt++; response = 0; fingerprint = payload; expired = 0; begun = 0; writer = 0;
#ifdef MUTANT_TAKEOVER_UNCOUNTED
    abandoned = 0;
#else
    abandoned = count;
#endif
    rewrote()
  :: else
  fi;
  consistent()
}

#ifdef MUTANT_RELEASE_UNFENCED
#define MAY_RELEASE(me) (status != NONE)
#else
#define MAY_RELEASE(me) (status == PENDING && attempt == number[me] && born == birth[me])
#endif

/* RELEASE */
inline giveKeyBack(me) {
  if
  :: MAY_RELEASE(me) ->
    FENCED(attempt == number[me] && born == birth[me]);
    status = ERROR; response = 0; abandoned = 0; begun = 0; writer = 0;
    deaths = 0;
    rewrote()
  :: else
  fi;
  consistent()
}

/* Of an attempt that is over, nothing is kept: fewer states tell the same. */
inline clear(me) {
  number[me] = 0; birth[me] = 0; mine[me] = 0
}

inline letGo(me) {
  if :: holder == me + 1 -> holder = 0 :: else fi
}

inline hangUp(me) {
  letGo(me);
  link[me] = CLOSED;
  if :: deserted[me] == DEAD -> clear(me) :: else fi;
  deserted[me] = 0
}

#if defined(MUTANT_NO_FENCE) || defined(MUTANT_READ_THEN_WRITE)
#define MAY_COMPLETE(me) (status != NONE)
#else
#define MAY_COMPLETE(me) (status == PENDING && attempt == number[me])
#endif

/* COMPLETE with its `1 / count(*)`, and COMMIT. */
inline commitAttempt(me, outcome) {
  if
  :: MAY_COMPLETE(me) ->
    FENCED(attempt == number[me] && born == birth[me]);
    status = outcome;
#ifndef MUTANT_EFFECT_APART
    if :: outcome == COMPLETED -> effects++; P1(effects == 1) :: else fi;
#endif
    P3(recorded == 0);
    response = RESPONSE(me); recorded = response; writer = me + 1; mine[me] = 1;
    abandoned = 0; begun = 0;
    rewrote()
  :: else
  fi;
  hangUp(me);
  consistent()
}

/* The server's end of a caller's connection. */
proctype Backend(byte me) {
end:
  do
  :: d_step { link[me] == SENT -> commitAttempt(me, COMPLETED) }
  :: d_step { link[me] == SENT_ERROR -> commitAttempt(me, ERROR) }
  /* COMMIT never came: PostgreSQL rolls back when it notices that the connection is gone. */
  :: d_step { link[me] != CLOSED && deserted[me] ->
#ifdef MUTANT_CLAIM_IN_HANDLER_TRANSACTION
      if :: attempt == 1 && status == PENDING && born == birth[me] -> deleteRecord() :: else fi;
#endif
      hangUp(me) }
  /* A frozen process, or pg_terminate_backend: the lock is gone, and the handler goes on for nothing. */
  :: d_step { link[me] == OPEN && !deserted[me] && FAULT; running--; letGo(me); link[me] = CUT }
  od
}

/* Time, and the reaper. */
proctype Clock() {
#ifdef MUTANT_REAP_UNCHECKED
  bit doomed;
#endif
end:
  do
  :: d_step { status != NONE && !expired && expiries > 0 && !closing -> expiries--; expired = 1 }
#ifdef MUTANT_REAP_UNCHECKED
  :: d_step { status != NONE && expired && !doomed -> doomed = 1 }
  :: d_step { doomed && status != NONE && holder == 0 -> doomed = 0;
      if :: expired -> beginLife() :: else fi;
      deleteRecord() }
#else
  /* REAP, with SKIP LOCKED */
  :: d_step { status != NONE && expired && holder == 0 && !closing -> beginLife(); deleteRecord(); consistent() }
#endif
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
  :: status != NONE && expired -> seen = IN_FLIGHT
  :: status != NONE && !expired && !SAME(payload) -> seen = REUSED
  :: status != NONE && !expired && SAME(payload) && response ->
    seen = FINAL;
    P3(response == recorded);
    P5(payload == asked)
  :: status != NONE && !expired && SAME(payload) && !response && status == ERROR -> seen = RELEASED
  :: status != NONE && !expired && SAME(payload) && status == PENDING -> seen = IN_FLIGHT
  fi
}

#ifdef MUTANT_LOCK_ANY_PAYLOAD
#define MINE_TO_TAKE(payload) true
#else
#define MINE_TO_TAKE(payload) (fingerprint == payload)
#endif
#if defined(MUTANT_NO_LOCK) || defined(MUTANT_READ_THEN_WRITE)
#define FREE true
#else
#define FREE (holder == 0)
#endif

/* The row is visible to the look's snapshot, nobody holds it, and LOCK's conditions hold for its newest version. */
#define LOCKABLE(me, payload) \
  (view[me] != DELETED && seen != ABSENT && FREE && link[me] == CLOSED && status != NONE && \
   (expired || (MINE_TO_TAKE(payload) && (status == PENDING || (status == ERROR && !response)))))

/* The process dies; its caller gets no answer. */
inline die(me) {
  d_step {
    if
    :: !deserted[me] && link[me] == OPEN -> running--; deaths++
    :: else
    fi;
    leave(me)
  }
}

/* The process gives the connection up, and goes on. */
inline abandonLink(me) {
  if :: link[me] == OPEN -> running-- :: else fi;
  deserted[me] = LEFT
}

/* The process is done with the attempt. */
inline leave(me) {
  if
  :: link[me] == CLOSED || link[me] == CUT -> link[me] = CLOSED; clear(me)
  :: else -> deserted[me] = DEAD
  fi;
  view[me] = 0; seen = UNREAD; count = 0
}

/* COMMIT is sent, and no answer comes. */
inline sendCommit(me, what, by) {
  running--; link[me] = what; deserted[me] = by;
  if :: by == DEAD -> deaths++ :: else fi
}

#ifdef MUTANT_NO_BIRTH
#define SAME_LIFE(me) (status != NONE)
#else
#define SAME_LIFE(me) (status != NONE && born == birth[me])
#endif
#if defined(MUTANT_ADOPT_BY_NUMBER) || defined(MUTANT_NO_BIRTH)
#define WRITTEN_BY(me) true
#else
#define WRITTEN_BY(me) (writer == me + 1)
#endif

proctype Caller(byte me; bit payload; bit last) {
  byte seen, count, round;

request:
  if
  /* LOOK, of a process that has seen the key finished. */
  :: atomic { status != NONE && !expired && response -> d_step { readRecord(payload) }
      if
      :: seen == FINAL -> seen = UNREAD; goto replayed
      :: else -> seen = UNREAD; goto reused
      fi }
  :: goto claim
  fi;

claim:
  if
#ifdef MUTANT_CLAIM_IN_HANDLER_TRANSACTION
  :: atomic { holder == 0 && status == NONE && link[me] == CLOSED ->
      makeRecord(payload); holder = me + 1; link[me] = LOOKING; begun = 1; goto own }
  :: atomic { holder == 0 && status != NONE -> skip }
#else
  :: atomic { d_step {
      if :: status == NONE -> makeRecord(payload) :: else fi;
      if :: last -> round++; P4(round <= 6) :: else fi } }
#endif
  :: atomic { FAULT } goto unanswered
  fi;

look: /* LOCK_OR_READ takes its snapshot, */
  atomic { d_step { readRecord(payload); view[me] = UNCHANGED } }

lock: /* and locks the newest version of the row that it sees. */
  if
  :: atomic { LOCKABLE(me, payload) ->
      d_step {
        number[me] = attempt; birth[me] = born; mine[me] = 0; link[me] = LOOKING;
        count = (status == PENDING && !expired -> abandoned + 1 : 0);
        /* A version that was written since the snapshot has our own xmax when it is looked at. */
        seen = (status == PENDING && !expired && !(begun && view[me] == UNCHANGED) -> ABSENT : RELEASED);
        if :: seen == ABSENT && begun -> overlooked = 1 :: else fi;
#if !defined(MUTANT_NO_LOCK) && !defined(MUTANT_READ_THEN_WRITE)
        holder = me + 1;
        begun = (status == PENDING);
#endif
        view[me] = 0
      }
      if
      :: seen == ABSENT -> seen = UNREAD; count = 0; goto own
      :: seen == RELEASED && count >= MAX_ATTEMPTS -> d_step { seen = UNREAD; count = 0; hangUp(me) } goto exhausted
      :: else -> seen = UNREAD; goto reclaim
      fi }
  /* SKIP LOCKED: what the snapshot tells. */
  :: atomic { !LOCKABLE(me, payload) -> view[me] = 0; goto conclude }
  /* LOCK_WAITING: the row is free, and not for us; READ. */
  :: atomic { !LOCKABLE(me, payload) && holder == 0 && seen == IN_FLIGHT -> d_step { view[me] = 0; readRecord(payload) } goto conclude }
  :: atomic { FAULT; die(me); goto unanswered }
  fi;

conclude:
  atomic {
    if
    :: seen == ABSENT || seen == RELEASED -> seen = UNREAD; goto claim
    :: seen == IN_FLIGHT -> seen = UNREAD; goto unanswered
    :: seen == REUSED -> seen = UNREAD; goto reused
    :: seen == FINAL -> seen = UNREAD; goto replayed
    fi }

reclaim:
  if
  :: atomic { d_step { countAttempt(me, payload, count); count = 0; hangUp(me) } goto claim }
  /* Its answer is lost, and it was done; or was not. */
  :: atomic { FAULT; d_step { countAttempt(me, payload, count); count = 0; hangUp(me) } goto unanswered }
  :: atomic { FAULT; d_step { leave(me) } goto unanswered }
  :: atomic { FAULT; die(me); goto unanswered }
  fi;

own:
  atomic { d_step {
    BOUNDED(deaths < MAX_ATTEMPTS || overlooked);
    P5(payload == asked);
    running++;
    ALONE(running == 1);
    link[me] = OPEN; number[me] = attempt; birth[me] = born; mine[me] = 0
  } }

handler:
  if
  /* It succeeds, or ends in a final error. */
#ifdef MUTANT_ANSWER_BEFORE_COMMIT
  :: atomic { link[me] == OPEN -> d_step { sendCommit(me, SENT, LEFT) } goto executed }
#endif
#ifdef MUTANT_EFFECT_APART
  :: atomic { link[me] == OPEN -> d_step { effects++; P1(effects == 1); consistent() } goto record }
#endif
  :: atomic { link[me] == OPEN ->
      d_step { running--; commitAttempt(me, COMPLETED) }
      if :: mine[me] -> goto executed :: else -> goto released fi }
  :: atomic { link[me] == OPEN ->
      d_step { running--; commitAttempt(me, ERROR) }
      if :: mine[me] -> goto executed :: else -> goto released fi }
  /* A deferred constraint refuses the commit. */
  :: atomic { link[me] == OPEN && FAULT; d_step { running--; hangUp(me) } goto released }
  /* The answer to COMMIT is lost; or the process dies before it comes. */
  :: atomic { link[me] == OPEN && FAULT; d_step { sendCommit(me, SENT, LEFT) } goto unknown }
  :: atomic { link[me] == OPEN && FAULT; d_step { sendCommit(me, SENT_ERROR, LEFT) } goto unknown }
  :: atomic { link[me] == OPEN && FAULT; d_step { sendCommit(me, SENT, DEAD) } goto unanswered }
  :: atomic { link[me] == OPEN && FAULT; d_step { sendCommit(me, SENT_ERROR, DEAD) } goto unanswered }
  /* It throws: RELEASE with the row still locked; */
  :: atomic { link[me] == OPEN && FAULT; d_step { running--; link[me] = LOOKING } goto release }
  /* or it was never entered, as when a pipe refuses the body: FORGET. */
  :: atomic { link[me] == OPEN && number[me] == 1 && FAULT;
      d_step { running--; deleteRecord(); hangUp(me); consistent() } goto unanswered }
  /* The connection is gone. */
  :: atomic { link[me] == OPEN && FAULT; d_step { abandonLink(me) } goto lost }
  :: atomic { link[me] == CUT -> link[me] = CLOSED; goto lost }
  :: atomic { FAULT; die(me); goto unanswered }
  fi;

#ifdef MUTANT_EFFECT_APART
record:
  if
  :: atomic { d_step { running--; commitAttempt(me, COMPLETED) } goto executed }
  :: atomic { FAULT; die(me); goto unanswered }
  fi;
#endif

release: /* In the transaction of the attempt, */
  if
  :: atomic { d_step { giveKeyBack(me); hangUp(me) } goto told_undone }
  :: atomic { FAULT; d_step { giveKeyBack(me); hangUp(me) } goto lost }
  :: atomic { FAULT; d_step { abandonLink(me) } goto lost }
  :: atomic { FAULT; die(me); goto unanswered }
  fi;

released: /* in one of its own, */
lost:     /* or on a connection of its own, when the server has ended the first. */
  if
  :: atomic { holder == 0 -> d_step { giveKeyBack(me) } goto told_undone }
  /* Not within its time. */
  :: atomic { holder != 0 -> goto told_undone }
  :: atomic { FAULT; die(me); goto unanswered }
  fi;

unknown: /* SETTLED */
#ifdef MUTANT_LOST_IS_FAILURE
  goto told_undone;
#endif
#ifdef MUTANT_LOST_IS_SUCCESS
  goto executed;
#endif
  if
  :: atomic { holder == 0 ->
      /* FOR UPDATE leaves its trace, like every lock. */
      if :: status == PENDING -> begun = 1 :: else fi;
      if
      :: !SAME_LIFE(me) -> goto unanswered
      :: SAME_LIFE(me) && (attempt != number[me] || status == PENDING) -> goto told_undone
      /* Another attempt of the same number: see docs/model.md. */
      :: SAME_LIFE(me) && attempt == number[me] && status != PENDING && !WRITTEN_BY(me) -> goto unanswered
      :: SAME_LIFE(me) && attempt == number[me] && status != PENDING && WRITTEN_BY(me) -> goto executed
      fi }
  /* Not within its time. */
  :: atomic { holder != 0 -> goto unanswered }
  :: atomic { FAULT; die(me); goto unanswered }
  fi;

told_undone: /* 500 or 503: nothing was committed, and nothing will be. */
  atomic { P7(!mine[me] && link[me] != SENT && link[me] != SENT_ERROR); goto unanswered }

executed: /* The caller gets the answer that it has captured. */
  atomic { P3(mine[me]); goto answered }

replayed: reused: exhausted: goto answered;

unanswered: /* Nothing final: the caller may ask again. */
  atomic { P4(!last); d_step { leave(me) } }
  if
  :: atomic { retries > 0 -> retries-- } goto request
  :: goto answered
  fi;

answered:
  atomic { d_step { leave(me); finished++ } }
}

init {
  atomic {
    run Backend(0); run Backend(1); run Backend(2); run Clock();
    run Caller(0, 0, 0);
#ifdef PAIR
    finished = 1;
#else
    run Caller(1, 0, 0);
#endif
    if :: run Caller(2, 0, 0) :: run Caller(2, 1, 0) fi
  }
  /* Nothing goes wrong any more, and the connections of the dead are noticed: then one request, of either payload, is answered for good. */
  atomic {
    finished == CALLERS && link[0] == CLOSED && link[1] == CLOSED && link[2] == CLOSED -> closing = 1;
    if :: run Caller(0, 0, 1) :: run Caller(0, 1, 1) fi
  }
  finished == CALLERS + 1
}
