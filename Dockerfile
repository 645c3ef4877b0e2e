# One image for every process: docker-compose.yml says which command is which.
ARG PYTHON=3.13-slim-trixie

FROM docker.io/library/python:${PYTHON} AS build
WORKDIR /app
COPY requirements.txt ./
RUN python3 -m venv --without-pip /venv \
    && python3 -m pip --python /venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: \
        -r requirements.txt
COPY . .
# The settings are strict: the example's stand in for this one command and stay out of the image.
RUN ENV_FILE=.env.example /venv/bin/python manage.py collectstatic --noinput \
    && mv static /static \
    && rm .env.example requirements.txt \
    && /venv/bin/python -m compileall -q .

FROM docker.io/library/python:${PYTHON}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="MEXAR Messaging" \
    org.opencontainers.image.description="SMS through several providers: failover, least cost, exactly once" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
RUN useradd --user-group --uid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin app
COPY --from=build /venv /venv
COPY --from=build /app /app
# The one directory that the process may write: a volume takes its owner from here.
COPY --from=build --chown=10001:10001 /static /app/static
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    UV_THREADPOOL_SIZE=16 \
    ENV_FILE= \
    DJANGO_SETTINGS_MODULE=config.settings
WORKDIR /app
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
# Every command handles SIGTERM itself and starts no shell, so that PID 1 needs no helper.
CMD ["granian", "--interface", "asgi", "--host", "0.0.0.0", "--port", "8000", "--http", "1", "--no-ws", \
     "--workers", "1", "--workers-kill-timeout", "20", \
     "--log-config", "config/granian.json", "config.asgi:application"]
