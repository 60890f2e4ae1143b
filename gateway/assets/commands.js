// What a person can type where the platform runs, as [command, when] pairs. The gateway tells how it was started: by
// scripts/run.sh on one machine, or on Vagrant's machines, where pm2 runs the services and systemd the servers. Where it
// does not tell, no command is shown, because none is right for sure.

export const GATEWAY = { process: "api_gateway", machine: "gateway-vm" };
export const BROKER = { process: "broker", machine: "billing-vm" };
// What our own broker calls itself; anything else is a RabbitMQ, which a package has installed.
const OWN_BROKER = "broker";
const LINES = 50;

// The commands on a platform with the answer `status` of /api/status; null if there has been none.
export function commandsOn(status) {
  const deployment = status?.gateway.deployment;
  const verbsOf = { script: scriptVerbs, vagrant: (part) => machineVerbs(part, status.broker.product) }[deployment];
  return verbsOf ? withVerbs(verbsOf) : NOTHING;
}

const NOTHING = { down: () => [], needing: () => [], blocked: () => [], fullOutbox: () => [], failedOutbox: () => [] };

// `verbsOf` takes a part, { process, machine }, and returns its commands. A further service has the `variable`, too, that
// can name another machine.
function withVerbs(verbsOf) {
  const [gateway, broker] = [verbsOf(GATEWAY), verbsOf(BROKER)];
  return {
    // A part does not answer.
    down(part) {
      const verbs = verbsOf(part);
      return [...mending(verbs, "it"), [verbs.logs, "to see why"], ...(verbs.others ?? [])];
    },
    // A service that answers lacks something, most likely its database.
    needing(part) {
      const database = verbsOf({ process: "postgres", machine: part.machine });
      return [[verbsOf(part).logs, "to see what it lacks"], ...mending(database, "its database")];
    },
    // The broker takes no orders.
    blocked: () => [
      [broker.disk, "to see which disk is full: make room there, and it goes on by itself"],
      [broker.logs, "to see what it lacks"],
    ],
    fullOutbox: () => [
      [gateway.disk, "to see whether its disk is full: make room there"],
      [broker.restart, "so that the orders in it can be passed on"],
    ],
    failedOutbox: () => [
      [gateway.logs, "to see why"],
      [gateway.disk, "to see whether its disk is full: make room there first"],
      [gateway.restart, "then, to open it again"],
    ],
  };
}

// Where a restart also starts what is stopped, it is all one needs.
function mending({ start, restart }, what) {
  if (start === restart) {
    return [[restart, `if ${what} is stopped or stuck`]];
  }
  return [[start, `if ${what} is stopped`], [restart, `if ${what} is stuck`]];
}

function scriptVerbs({ process }) {
  const verb = (name) => `./scripts/run.sh ${name} ${process}`;
  return { start: verb("start"), restart: verb("restart"), logs: verb("logs"), disk: "df -h" };
}

function machineVerbs({ process, machine, variable }, product) {
  const on = (command) => `vagrant ssh ${machine} -c '${command}'`;
  const verbs = (start, restart, logs) => ({ start: on(start), restart: on(restart), logs: on(logs), disk: on("df -h") });
  const up = [`vagrant up ${machine}`, "if its machine is off"];
  const pm2 = (name) => verbs(`sudo pm2 start ${name}`, `sudo pm2 restart ${name}`, `sudo tail -n ${LINES} /var/log/crud-master/${name}.log`);
  if (process === "postgres") {
    // systemd takes its unit for started also while the server is down, so starting it may do nothing.
    const restart = "sudo systemctl restart postgresql";
    return { ...verbs(restart, restart, `sudo sh -c "tail -n ${LINES} /var/log/postgresql/*.log"`), others: [up] };
  }
  if (process === BROKER.process && product !== OWN_BROKER) {
    const unit = "rabbitmq-server";
    const rabbitmq = verbs(`sudo systemctl start ${unit}`, `sudo systemctl restart ${unit}`, `sudo journalctl -n ${LINES} -u ${unit}`);
    // A gateway that was never connected does not know which broker it is.
    const own = product ? [] : [[pm2(process).restart, "if BROKER is embedded"]];
    return { ...rabbitmq, others: [...own, up] };
  }
  // Further services may be on the broker's machine instead; the gateway is not told.
  const there = `vagrant ssh ${BROKER.machine} -c 'sudo pm2 restart ${process}'`;
  const others = variable ? [[there, `if ${variable} is ${BROKER.machine}`]] : [];
  return { ...pm2(process), others: [...others, up] };
}
