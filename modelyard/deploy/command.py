"""``modelyard deploy`` and ``modelyard undeploy``: the steps in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from container.environment import current_environment
from modelyard.deploy import models, trial
from modelyard.deploy.alarms import Alarms
from modelyard.deploy.calls import Calls
from modelyard.deploy.endpoint import Endpoint, StillGoing
from modelyard.deploy.image import Image
from modelyard.deploy.options import Asked, asked_by, parser, removal_parser
from modelyard.deploy.problems import DeployError, problem_of
from modelyard.deploy.scaling import Scaling
from modelyard.deploy.undo import Undo
from modelyard.say import say


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard deploy``; returns the exit code."""
    made = parser()
    asked = asked_by(made.parse_args(arguments), made)
    return _told("deploy", asked.plan.name, lambda: _deploy(asked))


def undeploy(arguments: Sequence[str]) -> int:
    """Run ``modelyard undeploy``; returns the exit code."""
    given = removal_parser().parse_args(arguments)
    return _told("undeploy", given.name, lambda: _undeploy(given.name, given.region, given.dry_run))


def _told(command: str, name: str, work: Callable[[], None]) -> int:
    try:
        work()
    except DeployError as error:
        say(f"modelyard {command}: {error}")
        return error.code
    except (ClientError, BotoCoreError) as error:
        problem = problem_of(error)
        say(f"modelyard {command}: {problem}")
        return problem.code
    except (KeyboardInterrupt, SystemExit):
        say(
            "stopped; what AWS was told to do goes on. The same command goes on with it, "
            f"`modelyard undeploy {name}` removes it"
        )
        raise
    return 0


def _deploy(asked: Asked) -> None:
    plan = asked.plan
    calls = _calls(asked.region, dry_run=asked.dry_run)
    image = Image(asked.image, calls, current_environment())
    endpoint, scaling, alarms = (
        Endpoint(calls, plan.name),
        Scaling(calls, plan.name),
        Alarms(calls, plan.name),
    )
    body = None if asked.trial is None else trial.body_of(asked.trial)
    # All that may be told before anything is begun, rights that are missing too.
    models.check(plan, calls)
    endpoint.check_ours()
    image.check(plan)
    scaling.check(plan)
    alarms.check(plan)
    with _taken_back_if_it_fails() as undo:
        uri = image.ensure(plan, undo)
        endpoint.ensure(plan, uri, undo)
        scaling.ensure(plan, undo)
        alarms.ensure(plan, undo)
    if asked.trial is not None and body is not None:
        trial.invoke(plan.name, asked.trial, body, calls)


def _calls(region: str | None, *, dry_run: bool) -> Calls:
    """For a region, else that of the shell, which boto3 reads by one of its two names only."""
    if dry_run:
        say("nothing is changed; these are the calls that would change something:")
    told = region or current_environment().get("AWS_REGION")
    return Calls(told, dry_run=dry_run, show=_show)


@contextmanager
def _taken_back_if_it_fails() -> Iterator[Undo]:
    undo = Undo()
    try:
        yield undo
    except StillGoing:
        raise
    except (DeployError, ClientError, BotoCoreError):
        undo.run()
        raise


def _undeploy(name: str, region: str | None, dry_run: bool) -> None:
    calls = _calls(region, dry_run=dry_run)
    endpoint = Endpoint(calls, name)
    endpoint.check_ours()
    # Autoscaling first: it must not change what is being deleted.
    there = [Scaling(calls, name).delete(), endpoint.delete(), Alarms(calls, name).delete()]
    if not any(there):
        say(f"there is nothing of an endpoint {name} in {calls.region}")


def _show(line: str) -> None:
    """A call of a dry run: for a reader, or for a shell."""
    print(line, flush=True)  # noqa: T201
