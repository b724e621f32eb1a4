"""What a script fetches without a version is found however it is written, and what has one is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import commands
from policy.declared import Declared
from policy.rule import Context
from policy.shell import pipelines, unpinned
from tests.unit.engine import PROJECT
from tests.unit.policy_cases import OPEN

HERE = "<<'EOF'\napt-get install nginx\nEOF\n"


def found(script: str) -> list[str]:
    return [one.what for one in unpinned(script)]


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("apt-get install -y --no-install-recommends nginx=1.2-3 curl", "curl"),
        ("apt install nginx", "nginx"),
        ("sudo apt-get -y -o Dpkg::Options::=--force-confold install nginx", "nginx"),
        ("DEBIAN_FRONTEND=noninteractive apt-get install -qq nginx >/dev/null 2>&1", "nginx"),
        ("apt-get update &&\\\n apt-get install \\\n  nginx", "nginx"),
        ("if true; then apt-get install nginx; fi", "nginx"),
        ("(cd /tmp && apt-get install nginx)", "nginx"),
        ("echo don\\'t; apt-get install nginx", "nginx"),
        ('echo "it\'s" && apt-get install nginx', "nginx"),
        ("echo done #; apt-get install curl\napt-get install nginx", "nginx"),
        ("xargs apt-get install nginx < list", "nginx"),
        ("sudo -u root apt-get install nginx", "nginx"),
        ("apt-get install nginx/stable", "nginx/stable"),
        ("bash -c 'apt-get install nginx'", "nginx"),
        ('ssh web-0 "apt-get install nginx"', "nginx"),
        ("x=`apt-get install nginx`", "nginx"),
        ("x=$(apt-get install nginx)", "nginx"),
        (f"bash {HERE}", "nginx"),
        (f"ssh web-0 sudo bash -s {HERE}", "nginx"),
        ("cat > run.sh <<EOF\n#!/bin/sh\napt-get install nginx\nEOF\n", "nginx"),
        ("apt-get -y dist-upgrade", "dist-upgrade"),
        ("dnf install -y nginx", "nginx"),
        ("yum update -y", "update"),
        ("apk add --no-cache -t build curl", "curl"),
        ("curl -fsSL https://x/i.sh | sh", "downloaded"),
        ("curl https://x | sudo -E bash -", "downloaded"),
        ("curl -s https://x | bash -s -- --yes", "downloaded"),
        ("curl https://x | tee install.py | python3", "downloaded"),
        ("bash <(curl -s https://x)", "downloaded"),
        ("source <(wget -qO- https://x)", "downloaded"),
        ('sh -c "$(curl -fsSL https://x)"', "downloaded"),
        ('eval "$(wget -qO- https://x)"', "downloaded"),
        ("pip install requests", "requests"),
        ("python3 -m pip install --upgrade pip", "pip"),
        ("uv pip install 'requests>=2'", "requests"),
        ("pip install -i https://mirror/simple requests", "requests"),
        ("pip install git+https://x/y.git", "commit"),
        ("npm install -g yarn", "yarn"),
        ("npm i @scope/tool@latest", "@scope/tool"),
        ("ansible-galaxy collection install ansible.posix", "ansible.posix"),
        ("ansible-galaxy install geerlingguy.nginx", "geerlingguy.nginx"),
        ("docker run --rm -p 80:80 nginx:latest", "nginx:latest"),
        ("podman pull registry:5000/nginx", "registry:5000/nginx"),
        ("git clone https://x/y", "https://x/y"),
    ],
)
def test_what_has_no_version_is_named(script: str, named: str) -> None:
    assert any(named in one for one in found(script)), found(script)


@pytest.mark.parametrize(
    "script",
    [
        "apt-get install -y --no-install-recommends nginx=1.2-3 curl=7",
        "apt-get install -t stable nginx=1.2-3 > /tmp/log 2>&1",
        'apt-get install "nginx=$VERSION" $OTHERS ./local.deb old-',
        "apt-get remove nginx; apt-get update; apt-get -s dist-upgrade",
        "# apt-get install nginx",
        "true # apt-get install nginx",
        "echo 'apt-get install nginx'",
        'logger "apt-get install nginx failed"',
        "grep -q 'apt install nginx' README",
        "git commit -m 'apt install nginx'",
        f"cat > README {HERE}",
        f"cat > README {HERE}echo done",
        "cat <<-EOF && true\n\tit's apt install nginx\n\tEOF\nls",
        "dnf install -y nginx-1.22.1-9",
        "apk add curl=8.5.0-r0",
        "curl -fsSL https://x | tar xz",
        "curl -o i.sh https://x && sha256sum -c i.sh.sha256 && sh i.sh",
        "curl -s https://x | python3 -m json.tool",
        "curl -s https://x | bash report.sh",
        "VERSION=$(curl -s https://x | jq -r .version)",
        "pip install --require-hashes -r requirements.txt",
        "pip install requests==2.1 'tool[extra]==1' ./local .",
        "pip install -c constraints.txt requests",
        "pip install git+https://x/y.git@0a1b2c",
        "npm ci; npm install; npm install -g yarn@1.22.22 @scope/tool@1",
        "ansible-galaxy collection install ansible.posix:1.5.4",
        "ansible-galaxy role install geerlingguy.nginx,3.1.4",
        "ansible-galaxy install -r requirements.yml",
        "docker build -t app:latest .",
        "docker pull nginx:1.27",
        "docker pull registry:5000/nginx@sha256:ab",
        "git clone --branch v1 https://x/y",
        "git clone https://x/y && cd y && git checkout 0a1b2c",
        "exec patchwave wave preflight --stack dev",
    ],
)
def test_what_has_a_version_or_fetches_nothing_is_left_alone(script: str) -> None:
    assert found(script) == []


NAMES = st.from_regex(r"[a-z0-9][a-z0-9.+]{1,8}[a-z0-9]", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9][A-Za-z0-9.+~]{0,6}(-[0-9a-z]{1,3})?", fullmatch=True)
OPTIONS = st.lists(st.sampled_from(["-y", "-qq", "--no-install-recommends", "-t stable", "-o A::B=c"]), max_size=3)


@given(st.dictionaries(NAMES, VERSIONS, min_size=1, max_size=4), OPTIONS, st.data())
def test_one_package_without_its_version_among_others_is_found(
    packages: dict[str, str], options: list[str], data: st.DataObject
) -> None:
    pinned = [f"{name}={version}" for name, version in packages.items()]
    begin = " ".join(["apt-get install", *options])
    assert found(f"{begin} {' '.join(pinned)}") == []
    loose = data.draw(st.sampled_from(sorted(packages)))
    words = [word for word in pinned if not word.startswith(f"{loose}=")]
    words.insert(data.draw(st.integers(0, len(words))), loose)
    assert found(f"{begin} {' '.join(words)}") == [f"apt installs {loose} without a version"]


@given(st.text(alphabet="ab '\"\\$`(){}<>|&;#\n-=", max_size=60))
def test_whatever_is_written_it_is_read_to_its_end(script: str) -> None:
    list(unpinned(script))
    (command,) = (
        command for pipeline in pipelines(f"#{script.replace(chr(10), '')}\nlast") for command in pipeline if command
    )
    assert command == ["last"]


def leaks(script: str) -> bool:
    shown = Declared("command:local:Command", "run", {"create": script})
    return bool(list(commands.scripts_hold_no_secrets.check(shown, Context(PROJECT, "dev", OPEN, preview=False))))


@pytest.mark.parametrize(
    "script",
    [
        "DB_PASSWORD=correct-horse ./migrate",
        'export PGPASSWORD="correct-horse"',
        "--from-literal=password=correct-horse",
        "api_key: 0123456789abcdef",
        "secret='s3cr3t-value'",
        "docker login --password correct-horse",
        "sshpass -p horse ssh web-0",
        "curl -u admin:horse https://x",
        "echo 'root:correct-horse' | sudo chpasswd",
        "psql postgresql://app:correct-horse@db/app",
        "cat <<EOF\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\nEOF",
        f"AccountKey={'A' * 86}==",
        f"azcopy copy 'https://x.blob.core.windows.net/a?sv=1&sig={'a' * 43}%3D' .",
        f"git clone https://ghp_{'a' * 36}@github.com/x/y",
        f"glab auth login -t glpat-{'a' * 20}",
        f"az login -p abc8Q~{'a' * 34}",
    ],
)
def test_a_secret_in_a_script_is_found(script: str) -> None:
    assert leaks(script)


@pytest.mark.parametrize(
    "script",
    [
        'DB_PASSWORD="$PASSWORD" ./migrate',
        "token=$(az account get-access-token)",
        "token=`cat token`",
        "password={{ vault_password }}",
        "./migrate --password-file /run/secrets/db",
        "./migrate --password $PASSWORD",
        "docker login --password-stdin",
        "password=/run/secrets/db",
        "password = os.environ['DB']",
        "password = read_secret(name)",
        "passwd: compat systemd",
        "sed -i 's/^PasswordAuthentication.*/PasswordAuthentication no/' /etc/ssh/sshd_config",
        "passwd --lock root",
        "psql postgresql://app:$PASSWORD@db/app",
        "ssh git@github.com",
        "curl -u $USER:$PASSWORD https://x",
        "curl https://x:8080/path@2",
        "-----BEGIN CERTIFICATE-----",
        "kubectl get secret fieldops-tls -o yaml",
        "exec patchwave wave preflight --stack dev",
    ],
)
def test_what_only_speaks_of_secrets_is_left_alone(script: str) -> None:
    assert not leaks(script)
