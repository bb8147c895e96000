import os, pytest
from datetime import timedelta
from django.urls import reverse
from connectors.models import ApiCall, Connection
from connectors.hooks import hook_of
from jobs import clock
from tests.browser.test_connect import *  # noqa
def test_look(live_server, page, hub):
    import random
    r = random.Random(1)
    books = hub.connection("left")
    now = clock.now()
    ApiCall.objects.bulk_create(ApiCall(connection=books, at=now - timedelta(minutes=r.random()**2*1400), method=r.choice(["GET","GET","POST"]), path="/v3/company/9130/query?query=select * from Customer where Active in (true,false) and MetaData.LastUpdatedTime > '…' startposition 1 maxresults 1000&minorversion=75", status=r.choice([200]*12+[429,500,0,400]), ms=r.randint(20,1900), job_id=1 if r.random()<.3 else None) for _ in range(3000))
    Connection.objects.filter(pk=books.pk).update(auth_expires_at=now+timedelta(days=6, hours=3))
    hook_of("quickbooks").set_verifiers(["x"])
    call = ApiCall.objects.filter(connection=books, method="POST").last()
    pages = {"health": reverse("admin:connectors_connection_health", args=[books.pk]), "change": reverse("admin:connectors_connection_change", args=[books.pk]), "list": reverse("admin:connectors_connection_changelist"), "call": reverse("admin:connectors_connection_call", args=[books.pk, call.pk]), "crm": reverse("admin:connectors_connection_health", args=[hub.connection("right").pk])}
    for name, where in pages.items():
        for width in (1440, 390):
            for theme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=theme)
                page.goto(live_server.url + where)
                page.evaluate(f"localStorage.setItem('_x_adminTheme', JSON.stringify('{theme}'))"); page.evaluate(f"document.documentElement.classList.toggle('dark', '{theme}'=='dark')")
                if name == "health" and width == 1440:
                    page.click("button:text-is('Test')"); page.wait_for_selector("[data-step=write] .sl-good")
                print(name, width, theme, page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
                page.screenshot(path=f"/tmp/look/{name}-{width}-{theme}.png", full_page=True)
