CREATE TABLE public.idempotency_audit (
  id bigint NOT NULL IDENTITY,
  key_hash bytea NOT NULL,
  action text NOT NULL,
  attempt integer NOT NULL,
  status text NOT NULL,
  actor text NOT NULL,
  reason text NOT NULL,
  decided_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT idempotency_audit_action_check CHECK ((action = ANY (ARRAY['complete'::text, 'release'::text, 'erase'::text]))),
  CONSTRAINT idempotency_audit_pkey PRIMARY KEY (id)
);
CREATE INDEX idempotency_audit_key_hash ON public.idempotency_audit USING btree (key_hash);
CREATE UNIQUE INDEX idempotency_audit_pkey ON public.idempotency_audit USING btree (id);

CREATE TABLE public.idempotency_keys (
  key_hash bytea NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  completed_at timestamp with time zone,
  lease_until timestamp with time zone,
  attempt integer NOT NULL DEFAULT 1,
  abandoned smallint NOT NULL DEFAULT 0,
  format smallint NOT NULL DEFAULT 1,
  response_status smallint,
  status text NOT NULL DEFAULT 'pending'::text,
  fingerprint bytea NOT NULL,
  namespace text NOT NULL,
  scope text NOT NULL,
  key text NOT NULL,
  operation text NOT NULL,
  response_headers json,
  response_body bytea,
  last_error text,
  request bytea,
  CONSTRAINT idempotency_keys_key_check CHECK ((key <> ''::text)),
  CONSTRAINT idempotency_keys_pkey PRIMARY KEY (key_hash),
  CONSTRAINT idempotency_keys_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'completed'::text, 'error'::text])))
) WITH (autovacuum_vacuum_insert_scale_factor=0.05, autovacuum_vacuum_scale_factor=0.05, fillfactor=85);
CREATE INDEX idempotency_keys_expires_at ON public.idempotency_keys USING btree (expires_at);
CREATE INDEX idempotency_keys_lease_until ON public.idempotency_keys USING btree (lease_until) WHERE (lease_until IS NOT NULL);
CREATE UNIQUE INDEX idempotency_keys_pkey ON public.idempotency_keys USING btree (key_hash);

CREATE TABLE public.idempotency_keys_migrations (
  name text NOT NULL,
  applied_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT idempotency_keys_migrations_pkey PRIMARY KEY (name)
);
CREATE UNIQUE INDEX idempotency_keys_migrations_pkey ON public.idempotency_keys_migrations USING btree (name);

CREATE TABLE public.idempotency_steps (
  key_hash bytea NOT NULL,
  name text NOT NULL,
  "position" integer NOT NULL,
  kind text NOT NULL,
  attempt integer NOT NULL,
  raised boolean NOT NULL DEFAULT false,
  content_type text,
  body bytea NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT idempotency_steps_key_hash_fkey FOREIGN KEY (key_hash) REFERENCES idempotency_keys(key_hash) ON DELETE CASCADE,
  CONSTRAINT idempotency_steps_kind_check CHECK ((kind = ANY (ARRAY['step'::text, 'phase'::text]))),
  CONSTRAINT idempotency_steps_pkey PRIMARY KEY (key_hash, name)
);
CREATE UNIQUE INDEX idempotency_steps_pkey ON public.idempotency_steps USING btree (key_hash, name);
