"""What is wrong, who is told, does it reach them?  `manage.py alerts` with list, rules, messages, acknowledge, send-again, test, look."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import Model

from jobs.alerts import outbox, saving, watch
from jobs.models import Alert, AlertMessage, AlertRule
from jobs.states import READY, IllegalTransition
from jobs.worker import JobBusy, run_in_process

SHOWN = 50
BY = "command line"


class Command(BaseCommand):
    help = (
        "Show open alerts, rules and messages, or send a test. `look --send` looks and sends in this process: let cron call it "
        "on another machine, and it tells you when no worker is running."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command")
        commands.add_parser("list", help="what is wrong at present")
        commands.add_parser("rules", help="who is told of what")
        commands.add_parser("messages", help="the outbox, newest first")
        test = commands.add_parser("test", help="send a test message to everybody of a rule, from this process")
        test.add_argument("rule")
        known = commands.add_parser("acknowledge", help="somebody knows: no daily digest repeats it")
        known.add_argument("alert", type=int, metavar="ALERT")
        again = commands.add_parser("send-again", help="try a message again that was not delivered")
        again.add_argument("message", type=int, metavar="MESSAGE")
        look = commands.add_parser("look", help="look once for something new, as the worker does")
        look.add_argument("--send", action="store_true", help="send what waits, from this process")

    def handle(self, *args: Any, **options: Any) -> None:
        match options["command"]:
            case "rules":
                self._show(f"{r.name}: {r.get_what_display()}, to {self._whom(r)}" for r in AlertRule.objects.all())
            case "messages":
                rows = AlertMessage.objects.order_by("-at")[:SHOWN]
                self._show(
                    f"{m.pk:>6}  {m.at:%Y-%m-%d %H:%M}  {m.status:<8} {m.recipient}  {m.subject}  {m.error}"
                    for m in rows
                )
            case "test":
                self._test(options["rule"])
            case "acknowledge":
                self._on(Alert, options["alert"], lambda alert: saving.acknowledge(alert, by=BY))
            case "send-again":
                self._on(AlertMessage, options["message"], lambda message: outbox.send_again(message, by=BY))
            case "look":
                self.stdout.write(f"{watch.tick()} new messages.")
                if options["send"]:
                    self._send(AlertMessage.objects.filter(status=AlertMessage.Status.WAITING))
            case _:
                open_now = Alert.objects.filter(resolved_at__isnull=True).select_related("rule").order_by("opened_at")
                self._show(
                    f"{a.pk:>6}  {a.opened_at:%Y-%m-%d %H:%M}  {a.rule.name}: {a.text}{_known(a)}" for a in open_now
                )

    def _on(self, model: type[Model], pk: int, act: Callable[[Any], object]) -> None:
        row = model._default_manager.filter(pk=pk).first()
        if row is None:
            raise CommandError(f"There is no {model._meta.verbose_name} {pk}.")
        try:
            act(row)
        except IllegalTransition as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write("Done.")

    def _whom(self, rule: AlertRule) -> str:
        return f"{rule.get_to_display()} {', '.join(rule.addresses) or rule.host}{'' if rule.enabled else ' (off)'}"

    def _show(self, lines: Any) -> None:
        told = list(lines)
        self.stdout.write("\n".join(told) if told else "There is nothing.")

    def _test(self, name: str) -> None:
        rule = AlertRule.objects.filter(name=name).first()
        if rule is None:
            known = ", ".join(AlertRule.objects.values_list("name", flat=True)) or "none yet; make one in the admin"
            raise CommandError(f"There is no rule {name!r}. There are: {known}.")
        with transaction.atomic():
            sent = outbox.put_test(rule)
        self._send(AlertMessage.objects.filter(pk__in=[message.pk for message in sent]))

    def _send(self, messages: Any) -> None:
        for message in messages.select_related("job").order_by("id"):
            if message.job is None or message.job.status not in READY:
                continue
            try:
                job = run_in_process(message.job)
            except JobBusy as busy:
                self.stderr.write(f"{message.recipient}: {busy}")
                continue
            self.stdout.write(f"{message.recipient}: {job.status.label.lower()} {job.error_message}".rstrip())


def _known(alert: Alert) -> str:
    return f" ({alert.acknowledged_by or 'somebody'} knows)" if alert.acknowledged_at else ""
