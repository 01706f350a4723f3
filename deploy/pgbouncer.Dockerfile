# PgBouncer 1.18 as Debian 12 has it: the version that the tests run through.
FROM debian:bookworm-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends gettext-base pgbouncer \
  && rm -rf /var/lib/apt/lists/* \
  && install -d -o postgres -g postgres -m 0700 /run/cart-pgbouncer
COPY pgbouncer.ini.template pgbouncer-start.sh /opt/pgbouncer/
USER postgres
EXPOSE 6432
HEALTHCHECK --interval=2s --timeout=3s --retries=30 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6432"]
CMD ["sh", "/opt/pgbouncer/pgbouncer-start.sh"]
