# syntax=docker/dockerfile:1

# The gateway with its models and ONNX Runtime: `docker build -t stiver .`
#
#   docker run --rm -v stiver:/srv/stiver/data stiver keys create --team me       # prints a key, once
#   docker run -p 127.0.0.1:8080:8080 -v stiver:/srv/stiver/data -e OPENAI_API_KEY stiver
#
# Without a key it refuses to start: in a container it listens on all addresses.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the layer, so that a change of the source compiles the source alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin stiver \
    && cp target/release/stiver /usr/local/bin/stiver

FROM python:3.12-slim-bookworm AS onnxruntime
COPY scripts/fetch-onnxruntime.sh /fetch-onnxruntime.sh
RUN sh /fetch-onnxruntime.sh /onnxruntime

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 stiver \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin stiver \
    && install -d -o 10001 -g 10001 /srv/stiver/data
COPY --from=build /usr/local/bin/stiver /usr/local/bin/stiver
# Beside the executable is one of the places where the gateway looks for it.
COPY --from=onnxruntime /onnxruntime/libonnxruntime.so /usr/local/bin/libonnxruntime.so
# Paths in the configuration are relative to here.
WORKDIR /srv/stiver
COPY LICENSE NOTICE ./
COPY router-models router-models
COPY config config
USER 10001:10001
VOLUME /srv/stiver/data
EXPOSE 8080
# A shell that can open a socket saves the image an HTTP client.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["stiver"]
CMD ["serve", "--listen", "0.0.0.0:8080"]
