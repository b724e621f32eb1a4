# The pack's checks of scale sets, for conftest on a plan in JSON. Each message begins with the check's name.
package main

import rego.v1

watchers := {"ApplicationHealthLinux", "ApplicationHealthWindows"}

stacks := {"dev": false, "staging": false, "prod": true} # whether upgrades must be attended

most := {"maxBatchInstancePercent": 50, "maxUnhealthyInstancePercent": 50, "maxUnhealthyUpgradedInstancePercent": 20}

least := {"maxBatchInstancePercent": 5, "maxUnhealthyInstancePercent": 5, "maxUnhealthyUpgradedInstancePercent": 0}

sets := [props |
	some step in input.steps
	step.newState.type == "azure-native:compute:VirtualMachineScaleSet"
	props := step.newState.inputs
]

extensions(props) := [one | some one in props.virtualMachineProfile.extensionProfile.extensions; one.type in watchers]

probed(props) if props.virtualMachineProfile.networkProfile.healthProbe

watched(props) if count(extensions(props)) > 0

watched(props) if probed(props)

itself(props) if props.upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade == true

attended(props) if stacks[props.tags["patchwave-stack"]]

outside(value, low, high) if not is_number(value)

outside(value, low, high) if value < low

outside(value, low, high) if value > high

# seconds of an ISO 8601 duration of days and smaller
elapsed(text) := seconds if {
	regex.match(`^P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$`, text)
	units := {"D": 86400, "H": 3600, "M": 60, "S": 1}
	parts := regex.find_n(`\d+(\.\d+)?[DHMS]`, text, -1)
	count(parts) > 0
	seconds := sum([number |
		some part in parts
		size := count(part) - 1
		number := to_number(substring(part, 0, size)) * units[substring(part, size, 1)]
	])
}

within(text, low, high) if {
	seconds := elapsed(text)
	seconds >= low
	seconds <= high
}

deny contains "scale-sets-watch-application-health: add the extension" if {
	some props in sets
	not extensions(props)[0]
}

deny contains "scale-sets-watch-application-health: write Microsoft.ManagedServices" if {
	some props in sets
	some one in extensions(props)
	object.get(one, "publisher", "") != "Microsoft.ManagedServices"
}

deny contains "scale-sets-upgrade-in-batches: set Rolling" if {
	some props in sets
	object.get(props, ["upgradePolicy", "mode"], "") != "Rolling"
}

deny contains sprintf("scale-sets-roll-within-the-standard: %s: set at most %d", [key, limit]) if {
	some props in sets
	some key, limit in most
	value := object.get(props, ["upgradePolicy", "rollingUpgradePolicy", key], 1000)
	outside(value, 0, limit)
}

deny contains "scale-sets-go-back-by-themselves: set it to true" if {
	some props in sets
	object.get(props, "orchestrationMode", "") != "Flexible"
	object.get(props, ["upgradePolicy", "rollingUpgradePolicy", "rollbackFailedInstancesOnPolicyBreach"], false) != true
}

deny contains "what-is-patched-names-its-stack: tag it dev, staging or prod" if {
	some props in sets
	not object.get(props, ["tags", "patchwave-stack"], "") in object.keys(stacks)
}

deny contains sprintf("hosts-can-be-found: tags lack patchwave-%s", [name]) if {
	some props in sets
	some name in ["fleet", "service", "method", "rollback", "slot"]
	object.get(props, ["tags", sprintf("patchwave-%s", [name])], "") == ""
}

deny contains "hosts-are-entered-by-key: set disablePasswordAuthentication" if {
	some props in sets
	not props.virtualMachineProfile.osProfile.windowsConfiguration
	object.get(props, ["virtualMachineProfile", "osProfile", "linuxConfiguration", "disablePasswordAuthentication"], false) != true
}

deny contains "hosts-are-entered-by-key: leave adminPassword out" if {
	some props in sets
	not props.virtualMachineProfile.osProfile.windowsConfiguration
	props.virtualMachineProfile.osProfile.adminPassword
}

pinned(image) if contains(image.id, "/versions/")

pinned(image) if {
	not image.id
	object.get(image, "version", "latest") != "latest"
}

deny contains "images-are-pinned: write a version" if {
	some props in sets
	not itself(props)
	not pinned(object.get(props, ["virtualMachineProfile", "storageProfile", "imageReference"], {}))
}

deny contains "images-are-not-replaced-unattended: set it to false" if {
	some props in sets
	attended(props)
	object.get(props, ["upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade"], null) != false
}

deny contains "scale-sets-upgrade-in-a-known-mode: set Rolling" if {
	some props in sets
	not object.get(props, ["upgradePolicy", "mode"], "") in {"Automatic", "Manual", "Rolling"}
}

deny contains sprintf("rolling-percentages-are-in-range: %s: set %d to 100", [key, low]) if {
	some props in sets
	some key, low in least
	outside(props.upgradePolicy.rollingUpgradePolicy[key], low, 100)
}

deny contains "pauses-last-ten-minutes-at-most: set PT0S to PT10M" if {
	some props in sets
	text := props.upgradePolicy.rollingUpgradePolicy.pauseTimeBetweenBatches
	not within(text, 0, 600)
}

deny contains "only-uniform-sets-take-back-failed-instances: use Uniform" if {
	some props in sets
	props.upgradePolicy.rollingUpgradePolicy.rollbackFailedInstancesOnPolicyBreach == true
	props.orchestrationMode == "Flexible"
}

deny contains "rolling-upgrades-see-health: add the ApplicationHealth extension" if {
	some props in sets
	props.upgradePolicy.mode == "Rolling"
	not watched(props)
}

deny contains "image-upgrades-see-health: add the ApplicationHealth extension" if {
	some props in sets
	itself(props)
	not watched(props)
}

deny contains "health-has-one-source: remove the probe" if {
	some props in sets
	count(extensions(props)) > 0
	probed(props)
}

deny contains "health-has-one-source: keep one" if {
	some props in sets
	count(extensions(props)) > 1
}

deny contains sprintf("image-upgrades-exclude-guest-patching: %s", [system]) if {
	some props in sets
	itself(props)
	some system in ["linuxConfiguration", "windowsConfiguration"]
	props.virtualMachineProfile.osProfile[system].patchSettings.patchMode == "AutomaticByPlatform"
}

deny contains "image-upgrades-exclude-guest-patching: set enableAutomaticUpdates to false" if {
	some props in sets
	itself(props)
	windows := props.virtualMachineProfile.osProfile.windowsConfiguration
	object.get(windows, "enableAutomaticUpdates", true) != false
}

deny contains "image-upgrades-follow-the-latest-version: set latest" if {
	some props in sets
	itself(props)
	props.virtualMachineProfile.storageProfile.imageReference.version != "latest"
}

deny contains "image-upgrades-use-the-declared-policy: set useRollingUpgradePolicy" if {
	some props in sets
	itself(props)
	props.upgradePolicy.rollingUpgradePolicy
	object.get(props, ["upgradePolicy", "automaticOSUpgradePolicy", "useRollingUpgradePolicy"], false) != true
}

deny contains "only-image-upgrades-are-deferred: set both or none" if {
	some props in sets
	props.upgradePolicy.automaticOSUpgradePolicy.osRollingUpgradeDeferral == true
	not itself(props)
}

deny contains "image-upgrades-are-for-uniform-sets: use Uniform" if {
	some props in sets
	itself(props)
	props.orchestrationMode == "Flexible"
}

deny contains "surging-excludes-image-upgrades-of-flexible-sets: write true or false" if {
	some props in sets
	surge := props.upgradePolicy.rollingUpgradePolicy.maxSurge
	not is_boolean(surge)
}

deny contains "surging-excludes-image-upgrades-of-flexible-sets: remove one" if {
	some props in sets
	props.upgradePolicy.rollingUpgradePolicy.maxSurge == true
	itself(props)
	props.orchestrationMode == "Flexible"
}

deny contains "health-is-asked-by-a-known-protocol: set http, https or tcp" if {
	some props in sets
	some one in extensions(props)
	not object.get(one, ["settings", "protocol"], "") in {"http", "https", "tcp"}
}

deny contains "health-is-asked-by-a-known-protocol: remove the path" if {
	some props in sets
	some one in extensions(props)
	one.settings.protocol == "tcp"
	one.settings.requestPath
}

deny contains "health-is-asked-by-a-known-protocol: set a port" if {
	some props in sets
	some one in extensions(props)
	one.settings.protocol == "tcp"
	not one.settings.port
}

deny contains "health-is-asked-by-a-known-protocol: name the health endpoint" if {
	some props in sets
	some one in extensions(props)
	one.settings.protocol in {"http", "https"}
	object.get(one, ["settings", "requestPath"], "") == ""
}

deny contains "health-is-asked-by-a-known-protocol: set 1 to 65535" if {
	some props in sets
	some one in extensions(props)
	outside(one.settings.port, 1, 65535)
}

deny contains sprintf("health-is-asked-within-the-ranges: %s", [key]) if {
	some props in sets
	some one in extensions(props)
	some key, range in {"intervalInSeconds": [5, 60], "numberOfProbes": [1, 24], "gracePeriod": [1, 14400]}
	outside(one.settings[key], range[0], range[1])
}

deny contains "repairs-see-health: add the ApplicationHealth extension" if {
	some props in sets
	props.automaticRepairsPolicy.enabled == true
	not watched(props)
}

deny contains "repairs-wait-ten-to-ninety-minutes: set PT10M to PT90M" if {
	some props in sets
	text := props.automaticRepairsPolicy.gracePeriod
	not within(text, 600, 5400)
}

deny contains "repairs-are-a-known-action: set Replace, Reimage or Restart" if {
	some props in sets
	not props.automaticRepairsPolicy.repairAction in {"Replace", "Reimage", "Restart"}
	props.automaticRepairsPolicy.repairAction
}

deny contains "scale-sets-have-a-size: name a size" if {
	some props in sets
	object.get(props, ["sku", "name"], "") == ""
}

deny contains "scale-sets-have-a-size: set 0 to 1000" if {
	some props in sets
	outside(object.get(props, ["sku", "capacity"], null), 0, 1000)
}

configuration(props) := props.virtualMachineProfile.osProfile.windowsConfiguration

configuration(props) := props.virtualMachineProfile.osProfile.linuxConfiguration if {
	not props.virtualMachineProfile.osProfile.windowsConfiguration
}

deny contains "hosts-are-not-patched-unattended: set bypassPlatformSafetyChecksOnUserSchedule" if {
	some props in sets
	attended(props)
	patching := configuration(props).patchSettings
	patching.patchMode == "AutomaticByPlatform"
	bypass := ["automaticByPlatformSettings", "bypassPlatformSafetyChecksOnUserSchedule"]
	object.get(patching, bypass, false) != true
}

deny contains "hosts-are-not-patched-unattended: set Manual" if {
	some props in sets
	attended(props)
	windows := props.virtualMachineProfile.osProfile.windowsConfiguration
	mode := object.get(windows, ["patchSettings", "patchMode"], "")
	mode != "AutomaticByPlatform"
	{mode, object.get(windows, "enableAutomaticUpdates", null)} != {"Manual", false}
}
