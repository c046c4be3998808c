# Two images: `train` runs run.py, `serve` the page and the API. docs/deploy.md has the commands.
#
#   docker build --target train --tag vaesweep-train .
#   docker build --target serve --tag vaesweep-serve .
#
# Both compute on a CPU; with --build-arg TORCH=cuda, `train` has CUDA. The service uses no GPU.
# What is installed depends on the locks alone, which hold the hash of each file, so that a change
# of the code installs nothing.
FROM python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7 AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 vaesweep
WORKDIR /app

FROM base AS train
# Any user may write here, so that `docker run --user` works.
RUN install --directory --mode=1777 outputs .cache
ARG TORCH=cpu
COPY requirements.cpu.lock requirements.cuda.lock deploy/images/train.lock ./
RUN python -m pip install --no-deps --require-hashes --requirement train.lock \
      --requirement "requirements.$TORCH.lock" \
      --extra-index-url https://download.pytorch.org/whl/cpu
COPY LICENSE run.py ./
COPY conf conf
COPY decisions decisions
COPY losses losses
COPY models models
COPY experiments experiments
COPY sweeps sweeps
COPY analysis analysis
ARG REVISION=""
ENV VAESWEEP_REVISION=${REVISION}
USER 1000:1000
ENTRYPOINT ["python", "run.py"]

FROM base AS serve
COPY requirements.cpu.lock deploy/images/serve.lock ./
RUN python -m pip install --no-deps --require-hashes --requirement serve.lock \
      --requirement requirements.cpu.lock \
      --extra-index-url https://download.pytorch.org/whl/cpu
COPY LICENSE ./
COPY losses losses
COPY models models
COPY experiments experiments
COPY serving serving
USER 1000:1000
EXPOSE 8000
# On the port that the service was started with; without urllib, which would ask a proxy where one
# is set.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "\
import re; from http.client import HTTPConnection; \
port = re.findall('--port[= ]([0-9]+)', open('/proc/1/cmdline').read().replace(chr(0), ' ')); \
to = HTTPConnection('127.0.0.1', int(port[-1]) if port else 8000); \
to.request('GET', '/healthz'); \
raise SystemExit(to.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "serving.app", "--host", "0.0.0.0"]
# A trial or a sweep is mounted there, unless another --checkpoint is named.
CMD ["--checkpoint", "/model"]
