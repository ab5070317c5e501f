"""The page in a real browser without a window: Debian's chromium and chromium-driver."""

import io
import re
import shutil
import time
import zipfile
from importlib.resources import files

import av
import httpx
import numpy as np
import pytest
import videos
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from skimage import data

import photos
from faceblur_core.media.images import FORMAT_OF, read_photo
from faceblur_core.media.video import VIDEO_SUFFIXES

DESK, PHONE = (1280, 900), (360, 740)
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads):
    if not (BROWSER and DRIVER):
        pytest.skip("needs chromium and chromium-driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--method=haar", "--method=yunet", "--method=crowd", "--queue=1", "--max-megabytes=4")


@pytest.fixture(scope="module")
def locked(start_server):
    return start_server("--method=yunet", "--token=new")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files as a person has them: a phone's photo on its side, one with a face, one without, one that browsers do not show."""
    folder = tmp_path_factory.mktemp("photos")
    sideways = photos.turned(np.ascontiguousarray(data.astronaut()[:400]), 6)
    (folder / "sideways.jpg").write_bytes(photos.encoded(sideways, "JPEG", exif=photos.exif(orientation=6)))
    (folder / "astronaut.png").write_bytes(photos.encoded(data.astronaut(), "PNG"))
    (folder / "coffee.jpg").write_bytes(photos.encoded(data.coffee(), "JPEG"))
    (folder / "scan.tif").write_bytes(photos.encoded(data.astronaut()[:300], "TIFF"))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    scene, head = videos.background(), videos.face(data.astronaut())
    walk = [videos.composite(scene, [(head, 10 + 3 * t, 70)]) for t in range(20)]
    videos.write(folder / "walk.webm", walk, "libvpx", options={"crf": "10", "b": "2M"})
    videos.write(folder / "long.webm", walk * 40, "libvpx", options={"crf": "10", "b": "2M", "deadline": "realtime"})
    heard = videos.write(folder / "heard.mp4", walk[:6], audio="aac")
    videos.with_subtitles(heard, folder / "titled.mkv")
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "large.bmp").write_bytes(photos.encoded(np.zeros((1200, 1200, 3), np.uint8), "BMP"))
    return folder


@pytest.fixture
def page(browser, server):
    """The page as it is when it is opened, with what a test needs of it."""
    return Page(browser, server.url)


class Page:
    def __init__(self, browser, url, size=DESK):
        self.browser = browser
        browser.get("about:blank")
        browser.get_log("browser")  # what other pages said
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(url)
        self.until(lambda: self.all("#methods input") or self.visible("unlock"))

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, name):
        return self.browser.find_element(By.ID, name)

    def visible(self, name):
        return self.one(name).is_displayed()

    def until(self, condition, seconds=90):
        return WebDriverWait(self.browser, seconds, poll_frequency=0.1).until(lambda _: condition())

    @property
    def status(self):
        return self.one("status").text

    def add(self, *files):
        self.one("files").send_keys("\n".join(map(str, files)))

    def choose(self, *names):
        for box in self.all("[name=method]"):
            if box.is_selected() != (box.get_attribute("value") in names):
                self.browser.execute_script("arguments[0].click()", box)

    def start(self):
        self.one("start").click()
        self.until(lambda: not self.visible("stop") and self.one("start").is_enabled())

    def captions(self):
        return [caption.text.split("\n")[:2] for caption in self.all("figcaption")]

    def errors(self):
        return [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


def downloaded(folder, name):
    end = time.monotonic() + 30
    while not ((folder / name).exists() and (folder / name).stat().st_size):  # Chromium keeps the name with an empty file first
        assert time.monotonic() < end, list(folder.iterdir())
        time.sleep(0.1)
    return (folder / name).read_bytes()


def test_photos_are_uploaded_compared_and_downloaded(page, pictures, downloads):
    page.add(pictures / "sideways.jpg", pictures / "astronaut.png")
    assert page.status == "2 photos ready." and len(page.all("#photos img")) == 2
    page.choose("yunet", "haar")
    assert page.one("start").text == "Hide faces in 2 photos"
    page.start()
    assert "Done: 2 photos" in page.status and "2 faces found" in page.status
    assert sorted(name for name, _ in page.captions()) == ["haar+blur"] * 2 + ["yunet+blur"] * 2
    assert all(facts.startswith("1 face") for _, facts in page.captions())
    sizes = [tuple(image.get_property(side) for side in ("naturalWidth", "naturalHeight")) for image in page.all(".slider img")]
    assert sizes == [(512, 400)] * 4 + [(512, 512)] * 4  # the phone's photo is upright, before and after

    page.all(".tools a")[0].click()
    one = downloaded(downloads, "sideways-yunet-blur.jpg")
    assert read_photo(one).made == "anonymized" and Image.open(io.BytesIO(one)).size == (512, 400)
    page.one("download").click()
    with zipfile.ZipFile(io.BytesIO(downloaded(downloads, "faceblur.zip"))) as archive:
        assert archive.testzip() is None
        folders = ("haar-blur", "yunet-blur")
        assert sorted(archive.namelist()) == [
            f"{folder}/{name}" for folder in folders for name in ("astronaut.png", "sideways.jpg")
        ]
        assert archive.read("yunet-blur/sideways.jpg") == one
        hidden = np.asarray(Image.open(io.BytesIO(archive.read("yunet-blur/astronaut.png")))).astype(int)
    assert np.abs(hidden - data.astronaut())[80:160, 190:260].mean() > 20
    assert page.errors() == []


def test_the_line_between_before_and_after_moves_by_mouse_and_by_keys(page, pictures):
    page.add(pictures / "astronaut.png")
    page.start()
    picture, line = page.all(".slider")[0], page.all(".slider .line")[0]
    webdriver.ActionChains(page.browser).move_to_element_with_offset(picture, 100, 0).click().perform()
    share = (line.rect["x"] - picture.rect["x"]) / picture.rect["width"]
    assert abs(share - (0.5 + 100 / picture.rect["width"])) < 0.05
    handle = page.all(".slider input")[0]
    handle.send_keys(Keys.HOME)
    assert abs(line.rect["x"] - picture.rect["x"]) < 3 and handle.get_attribute("aria-valuetext") == "0 % original"
    handle.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert handle.get_attribute("aria-valuetext") == "2 % original"


def test_everything_works_by_keyboard_alone(page, pictures):
    page.add(pictures / "astronaut.png")
    page.browser.execute_script("arguments[0].focus()", page.one("files"))

    def press(key):
        webdriver.ActionChains(page.browser).send_keys(key).perform()
        return page.browser.switch_to.active_element

    seen = []
    while len(seen) < 15 and "start" not in seen:
        focused = press(Keys.TAB)
        seen.append(focused.get_attribute("id") or focused.get_attribute("aria-label") or focused.get_attribute("value"))
    press(Keys.ENTER)
    assert seen[0] == "Remove astronaut.png" and "yunet" in seen and "obfuscator" in seen and seen[-1] == "start"
    page.until(lambda: "Done" in page.status)
    enlarge = page.all(".tools button")[0]
    enlarge.send_keys(Keys.ENTER)
    assert page.visible("large") and page.all("#large .slider")
    assert press(Keys.ESCAPE) == enlarge and not page.visible("large")


def test_everything_has_a_name_for_those_who_do_not_see_it(page, pictures):
    page.add(pictures / "astronaut.png", pictures / "coffee.jpg", pictures / "walk.webm")
    page.start()
    tree = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "link", "checkbox", "slider", "combobox", "image", "progressbar", "listbox"}
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"] and "role" in n]
    controls = [(role, name) for role, name in named if role in roles]
    assert len(controls) > 12 and all(name.strip() for _, name in controls), controls
    assert page.browser.execute_script("return document.documentElement.lang") == "en"


def test_a_photo_without_a_face_says_so(page, pictures):
    page.add(pictures / "coffee.jpg")
    page.start()
    assert page.all(".warn")[0].text.startswith("No face found")


def test_bad_files_cost_nobody_else(page, pictures):
    page.add(pictures / "broken.jpg", pictures / "astronaut.png", pictures / "large.bmp")
    assert "Too large, left out: large.bmp" in page.status
    page.start()
    assert page.status == "1 of 2 done, 1 failed."
    assert [item.text for item in page.all(".blank-result.bad")] == ["not a picture, or of a format that cannot be read"]
    assert len(page.all(".tools a")) == 1


def test_what_browsers_cannot_show_can_be_downloaded(page, pictures, downloads):
    page.add(pictures / "scan.tif")
    page.start()
    page.until(lambda: "cannot show this kind" in page.all("figure")[0].text)
    page.all(".tools a")[0].click()
    assert read_photo(downloaded(downloads, "scan-yunet-blur.tif")).made == "anonymized"


def test_only_what_is_new_is_done_again(page, pictures):
    page.add(pictures / "astronaut.png")
    page.start()
    source = page.all(".slider .after")[0].get_attribute("src")
    page.choose("yunet", "crowd")
    page.start()
    assert page.captions()[0][0] == "yunet+blur" and page.captions()[1][0] == "crowd"
    assert page.all(".slider .after")[0].get_attribute("src") == source
    Select(page.one("obfuscator")).select_by_value("solid")
    page.browser.execute_script("const r = arguments[0]; r.value = 2; r.dispatchEvent(new Event('input'))", page.one("grow"))
    assert page.one("grow-value").text == "2.0"
    page.start()
    assert [name for name, _ in page.captions()] == ["yunet+solid mask.grow=2.0", "crowd"]
    Select(page.one("obfuscator")).select_by_value("blur")  # back to what was first
    page.browser.execute_script("arguments[0].value = 1.4", page.one("grow"))
    page.start()
    assert page.status == "Everything was done before." and [name for name, _ in page.captions()] == ["yunet+blur", "crowd"]
    assert page.all(".slider .after")[0].get_attribute("src") == source and len(page.all(".tools a")) == 2
    page.one("clear").click()
    assert not page.all("article") and not page.all("#photos li") and not page.one("start").is_enabled()


def test_a_busy_server_is_asked_again(page, pictures):
    """Six tasks for a server in which few have room: all are done in the end."""
    script = """
        const photo = new Blob([await (await fetch('/icon.svg')).arrayBuffer()]);
        const ask = () => fetch('/v1/anonymize?method=haar', {method: 'POST', body: photo}).then(r => r.status);
        arguments[0](await Promise.all(Array.from({length: 12}, ask)));
    """
    page.add(*[pictures / name for name in ("astronaut.png", "coffee.jpg", "sideways.jpg")])
    page.choose("yunet", "haar")
    page.one("start").click()
    codes = page.browser.execute_async_script(f"(async () => {{{script}}}).apply(null, arguments)")
    assert set(codes) <= {422, 503}
    page.until(lambda: not page.visible("stop"))
    assert "Done: 3 photos" in page.status and len(page.all(".tools a")) == 6


def test_work_can_be_stopped(page, pictures):
    page.add(*[pictures / "astronaut.png"] * 8)
    page.choose("haar")
    page.one("start").click()
    page.one("stop").click()
    page.until(lambda: page.status.startswith("Stopped"))
    assert page.one("start").is_enabled() and len(page.all(".tools a")) < 8
    stopped = sum("stopped" in figure.text for figure in page.all("figure"))
    assert not page.all("[aria-busy=true]") and len(page.all(".tools a")) + stopped == 8


def test_while_work_goes_on_no_files_are_taken(page, pictures):
    """They would not be worked on, and yet be counted as done."""
    page.add(*[pictures / "astronaut.png"] * 8)
    page.choose("haar")
    page.one("start").click()
    assert not page.one("files").is_enabled()
    page.until(lambda: not page.visible("stop"))
    assert page.one("files").is_enabled() and "Done: 8 photos" in page.status


def test_a_video_is_uploaded_watched_and_downloaded(page, pictures, downloads, tmp_path):
    page.add(pictures / "walk.webm", pictures / "astronaut.png")
    assert page.status == "1 photo and 1 video ready." and page.all("#photos video")
    page.start()
    assert page.status == "Done: 1 photo and 1 video, up to 2 faces found."
    [player] = page.all("video.watch")
    page.until(lambda: player.get_property("readyState") >= 1)
    assert player.get_property("videoWidth") == 320 and 0.7 < player.get_property("duration") < 0.9
    assert page.all("figcaption")[0].text.split("\n")[:2] == ["yunet+blur", "1 face followed"]
    page.browser.execute_script("arguments[0].muted = true; arguments[0].play()", player)
    page.until(lambda: player.get_property("ended"))
    page.all(".tools a")[0].click()
    (tmp_path / "out.webm").write_bytes(downloaded(downloads, "walk-yunet-blur.webm"))
    before, after = (videos.frames(path) for path in (pictures / "walk.webm", tmp_path / "out.webm"))
    for t, (was, now) in enumerate(zip(before, after, strict=True)):
        assert np.abs(was.astype(int) - now)[100:140, 38 + 3 * t : 76 + 3 * t].mean() > 12
    assert page.errors() == []


def test_a_result_that_gets_lost_is_fetched_again_and_then_deleted(page, server, pictures):
    page.browser.execute_script("""
        const open = XMLHttpRequest.prototype.open;
        window.asked = [];
        XMLHttpRequest.prototype.open = function (verb, url) {
          if (url.endsWith("/result")) asked.push(url);
          open.call(this, verb, url.endsWith("/result") && asked.length === 1 ? "http://localhost:1/lost" : url);
        };
    """)
    page.add(pictures / "walk.webm")
    page.start()
    assert page.status == "Done: 1 video, up to 1 face found."
    first, second = page.browser.execute_script("return window.asked")
    assert first == second
    page.until(lambda: httpx.get(f"{server.url}/{first.removesuffix('/result')}").status_code == 404, 10)


def test_sound_and_subtitles_of_a_video_can_be_left_out(page, pictures, downloads):
    page.add(pictures / "astronaut.png")
    assert not page.visible("of-videos")
    page.add(pictures / "titled.mkv")
    assert page.visible("of-videos") and page.one("audio").is_selected() and page.one("subtitles").is_selected()
    kept = {}
    for dropped in ((), ("audio",), ("audio", "subtitles")):
        for name in ("audio", "subtitles"):
            if page.one(name).is_selected() == (name in dropped):
                page.one(name).click()
        page.start()
        name = "-".join(["titled-yunet-blur", *(f"no-{name}" for name in dropped)])
        page.all(".tools a")[-1].click()
        downloaded(downloads, f"{name}.mkv")
        with av.open(str(downloads / f"{name}.mkv")) as container:
            kept[dropped] = [stream.type for stream in container.streams]
    assert kept == {
        (): ["video", "audio", "subtitle"],
        ("audio",): ["video", "subtitle"],
        ("audio", "subtitles"): ["video"],
    }
    assert [caption.text.split("\n")[0] for caption in page.all("figcaption")] == [
        "yunet+blur",
        "yunet+blur no-audio no-subtitles",
    ]
    assert page.errors() == []


def test_a_video_tells_how_far_it_is_and_can_be_cancelled_alone(page, pictures):
    page.add(pictures / "long.webm", pictures / "astronaut.png")
    page.one("start").click()
    bar = page.until(lambda: page.all(".job progress"))[0]
    page.until(lambda: 0 < float(bar.get_property("value")) < 1)
    assert "hiding faces" in page.all(".job")[0].text and " %" in page.status
    assert bar.get_attribute("aria-label") == "long.webm, yunet+blur" and page.one("status").get_attribute("role") == "status"
    [cancel] = page.all(".job button")
    assert cancel.get_attribute("aria-label") == "Cancel long.webm, yunet+blur"
    cancel.send_keys(Keys.ENTER)
    page.until(lambda: not page.visible("stop"))
    assert [item.text for item in page.all(".blank-result")] == ["stopped"] and page.all(".slider")
    assert page.errors() == []


def test_work_on_a_video_can_be_stopped_and_a_bad_one_says_why(page, pictures):
    page.add(pictures / "broken.mp4")
    page.start()
    assert page.all(".blank-result.bad")[0].text.startswith("not a video, or damaged")
    page.one("clear").click()
    page.add(pictures / "long.webm")
    page.one("start").click()
    page.until(lambda: "hiding faces" in page.all(".job")[0].text)
    page.one("stop").click()
    page.until(lambda: page.status.startswith("Stopped"))
    page.add(pictures / "walk.webm")  # the server is free for it
    page.all("#photos button")[0].click()
    page.start()
    assert page.status.startswith("Done: 1 video")


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_nothing_is_wider_than_the_screen(browser, server, pictures, size):
    page = Page(browser, server.url, size)
    page.add(pictures / "astronaut.png", pictures / "coffee.jpg", pictures / "walk.webm")
    page.choose("yunet", "crowd")
    page.start()
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    page.browser.execute_script("arguments[0].click()", page.all(".tools button")[0])
    box = page.until(lambda: page.all("#large .slider")[0].rect)
    assert box["x"] >= 0 and box["x"] + box["width"] <= size[0]


def test_the_token_comes_with_the_address_and_leaves_it(browser, locked, pictures):
    page = Page(browser, locked.address)
    assert "#token=" in locked.address and "token" not in browser.current_url
    page.add(pictures / "astronaut.png")
    page.start()
    assert "Done: 1 photo" in page.status
    browser.execute_script("sessionStorage.clear()")


def test_without_it_the_page_asks(browser, locked):
    page = Page(browser, locked.url)
    assert page.visible("unlock") and not page.visible("work")
    page.one("token").send_keys("something else", Keys.ENTER)
    page.until(lambda: page.one("token-hint").text == "That is not the token.")
    page.one("token").clear()
    page.one("token").send_keys(locked.address.partition("token=")[2], Keys.ENTER)
    page.until(lambda: page.visible("work"))
    assert page.all("#methods input")
    browser.execute_script("sessionStorage.clear()")


def test_the_token_is_taken_where_the_page_already_asks_for_it(browser, locked):
    page = Page(browser, locked.url)
    assert page.visible("unlock")
    browser.get(locked.address)  # the same page, which is not loaded again
    page.until(lambda: page.visible("work") and not page.visible("unlock"), 10)
    methods = len(page.all("#methods input"))
    assert methods and "token" not in browser.current_url
    browser.get(locked.address)
    page.until(lambda: "token" not in browser.current_url, 10)
    assert len(page.all("#methods input")) == methods
    browser.execute_script("sessionStorage.clear()")


def test_the_page_asks_no_other_host(browser, server):
    page = Page(browser, server.url)
    names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert names and all(name.startswith(server.url) for name in names)
    assert page.errors() == []


def test_the_page_takes_for_a_video_what_faceblur_does():
    text = files("faceblur_web").joinpath("page", "app.js").read_text()
    ending = re.compile(re.search(r"const VIDEO = /(.+)/i;", text)[1], re.IGNORECASE)
    assert [suffix for suffix in sorted(VIDEO_SUFFIXES) if not ending.search(f"clip{suffix}")] == []
    assert not any(ending.search(f"photo{suffix}") for suffix in FORMAT_OF)
