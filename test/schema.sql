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
  CONSTRAINT idempotency_keys_key_check CHECK ((key <> ''::text)),
  CONSTRAINT idempotency_keys_pkey PRIMARY KEY (key_hash),
  CONSTRAINT idempotency_keys_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'completed'::text, 'error'::text])))
) WITH (fillfactor=80);
CREATE INDEX idempotency_keys_expires_at ON public.idempotency_keys USING btree (expires_at);
CREATE UNIQUE INDEX idempotency_keys_pkey ON public.idempotency_keys USING btree (key_hash);

CREATE TABLE public.idempotency_keys_migrations (
  name text NOT NULL,
  applied_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT idempotency_keys_migrations_pkey PRIMARY KEY (name)
);
CREATE UNIQUE INDEX idempotency_keys_migrations_pkey ON public.idempotency_keys_migrations USING btree (name);
