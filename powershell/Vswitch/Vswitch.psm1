# The Windows end of the vswitch bridge, for Windows PowerShell 5.1.
# Everything that comes in is data: names, identifiers and addresses are only ever passed as
# parameter values, never made part of a command. Adapters are found by Id, never by name.
# NetAdapter, NetNat, NetTCPIP and ScheduledTasks cmdlets do not see this module's preferences, hence
# -ErrorAction Stop.

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'SilentlyContinue'
$ConfirmPreference = 'None'

$script:ModuleVersion = '0.2.0'
$script:LockSeconds = 30
$script:SystemSid = 'S-1-5-18'
$script:AdministratorsSid = 'S-1-5-32-544'
$script:HyperVAdministratorsSid = 'S-1-5-32-578'
$script:TaskPath = '\vswitch\'

# ------------------------------------------------------------------ values, JSON, errors

function Get-VswitchValue {
    # A property or key that may be missing, null, or fail to be read (some getters do on some hosts).
    param($InputObject, [string] $Name, $Default)
    if ($null -eq $InputObject) {
        return $Default
    }
    $value = $null
    if ($InputObject -is [System.Collections.IDictionary]) {
        if ($InputObject.Keys -contains $Name) {
            $value = $InputObject[$Name]
        }
    } else {
        $property = $InputObject.PSObject.Properties[$Name]
        if ($null -ne $property) {
            try {
                $value = $property.Value
            } catch {
                $value = $null
            }
        }
    }
    if ($null -eq $value) {
        return $Default
    }
    return $value
}

function Get-VswitchText {
    param($InputObject, [string] $Name)
    return [string] (Get-VswitchValue -InputObject $InputObject -Name $Name -Default '')
}

function Get-VswitchNumber {
    # Enumerations become their numbers here: OnOffState On is 0, Off is 1.
    param($InputObject, [string] $Name, [long] $Default = 0)
    return [long] (Get-VswitchValue -InputObject $InputObject -Name $Name -Default $Default)
}

function Get-VswitchFlag {
    param($InputObject, [string] $Name)
    return [bool] (Get-VswitchValue -InputObject $InputObject -Name $Name -Default $false)
}

function Get-VswitchList {
    # Writes the members one by one: the caller wraps the call in @() and so has a plain array.
    param($InputObject, [string] $Name)
    foreach ($member in @(Get-VswitchValue -InputObject $InputObject -Name $Name -Default @())) {
        if ($null -ne $member) {
            $member
        }
    }
}

function Get-VswitchGuid {
    # Lower-case text, or null where there is none (an adapter without a switch, a host adapter's VM).
    param($InputObject, [string] $Name)
    $text = (Get-VswitchText -InputObject $InputObject -Name $Name).ToLowerInvariant()
    if ($text -eq '' -or $text -eq '00000000-0000-0000-0000-000000000000') {
        return $null
    }
    return $text
}

function ConvertTo-VswitchJson {
    # ASCII only, so that no code page between here and the reader can spoil a name.
    param($InputObject)
    $text = ConvertTo-Json -InputObject $InputObject -Depth 20 -Compress
    $escape = {
        param($match)
        return '\u{0:x4}' -f [int] [char] $match.Value
    }
    return [regex]::Replace($text, '[^\u0000-\u007F]', $escape)
}

function ConvertFrom-VswitchJson {
    # ConvertFrom-Json of Windows PowerShell may stop at 2 MB, so its own parser is used directly.
    param([string] $Text)
    if ($PSVersionTable.PSEdition -ne 'Desktop') {
        return ConvertFrom-Json -InputObject $Text
    }
    Add-Type -AssemblyName 'System.Web.Extensions'
    $parser = New-Object -TypeName 'System.Web.Script.Serialization.JavaScriptSerializer'
    $parser.MaxJsonLength = [int]::MaxValue
    return $parser.DeserializeObject($Text)
}

function Get-VswitchTime {
    param([double] $AddSeconds = 0)
    $moment = [DateTime]::UtcNow.AddSeconds($AddSeconds)
    return $moment.ToString('s', [Globalization.CultureInfo]::InvariantCulture) + 'Z'
}

function Get-VswitchTimeText {
    # A time read back from JSON: newer PowerShells turn it into a DateTime.
    param($InputObject, [string] $Name)
    $value = Get-VswitchValue -InputObject $InputObject -Name $Name -Default ''
    if ($value -is [DateTime]) {
        return $value.ToUniversalTime().ToString('s', [Globalization.CultureInfo]::InvariantCulture) + 'Z'
    }
    return [string] $value
}

function Get-VswitchErrorCode {
    # Hyper-V writes its code at the end of the message, behind names that may look like one; the
    # exception's own is the next best.
    param([System.Management.Automation.ErrorRecord] $Record)
    $pattern = '(?<![0-9A-Za-z])0x[0-9A-Fa-f]{8}(?![0-9A-Za-z])'
    $found = [regex]::Match([string] $Record.Exception.Message, $pattern, [Text.RegularExpressions.RegexOptions]::RightToLeft)
    if ($found.Success) {
        return [Convert]::ToInt64($found.Value.Substring(2), 16)
    }
    $code = [long] $Record.Exception.HResult
    if ($code -lt 0) {
        $code = $code + 4294967296
    }
    return $code
}

function ConvertTo-VswitchError {
    # What an error record says, as data.
    param([System.Management.Automation.ErrorRecord] $Record, $Adapter = $null, $Step = $null)
    if ([string] $Record.FullyQualifiedErrorId -like 'Vswitch.*') {
        return $Record.TargetObject['error']
    }
    return [ordered]@{
        message = [string] $Record.Exception.Message
        hresult = Get-VswitchErrorCode -Record $Record
        category = [string] $Record.CategoryInfo.Category
        fullyQualifiedErrorId = [string] $Record.FullyQualifiedErrorId
        target = [ordered]@{
            adapter = $Adapter
            step = $Step
        }
    }
}

function New-VswitchError {
    param([string] $Category, [string] $Message, $Adapter = $null, $Step = $null)
    return [ordered]@{
        message = $Message
        hresult = $null
        category = $Category
        fullyQualifiedErrorId = "Vswitch.$Category"
        target = [ordered]@{
            adapter = $Adapter
            step = $Step
        }
    }
}

function Stop-VswitchOperation {
    # Throws; the record carries the error as data, and what is known of the host's state.
    param($ErrorData, $Result = $null)
    $exception = New-Object -TypeName 'System.InvalidOperationException' -ArgumentList ([string] $ErrorData['message'])
    $target = @{
        error = $ErrorData
        result = $Result
    }
    $arguments = @($exception, "Vswitch.$($ErrorData['category'])", 'InvalidOperation', $target)
    throw (New-Object -TypeName 'System.Management.Automation.ErrorRecord' -ArgumentList $arguments)
}

# ------------------------------------------------------------------ rights, folder, files

function Get-VswitchRight {
    # Which groups that matter this process runs with.
    $identity = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = New-Object -TypeName 'System.Security.Principal.WindowsPrincipal' -ArgumentList $identity
    $administrators = New-Object -TypeName 'System.Security.Principal.SecurityIdentifier' -ArgumentList $script:AdministratorsSid
    $operators = New-Object -TypeName 'System.Security.Principal.SecurityIdentifier' -ArgumentList $script:HyperVAdministratorsSid
    return [ordered]@{
        administrator = [bool] $principal.IsInRole($administrators)
        hyperVAdministrator = [bool] $principal.IsInRole($operators)
    }
}

function Initialize-VswitchHost {
    # Without the right groups Hyper-V's cmdlets return nothing at all, which must not look like an empty host.
    param([switch] $Administrator)
    try {
        Import-Module -Name 'Hyper-V' -ErrorAction Stop
    } catch {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'HyperVMissing' -Message "The Hyper-V PowerShell module cannot be loaded: $($_.Exception.Message)")
    }
    $right = Get-VswitchRight
    if (-not $right['administrator'] -and -not $right['hyperVAdministrator']) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'AccessDenied' -Message 'The account is in neither Hyper-V Administrators nor Administrators on this host')
    }
    if ($Administrator -and -not $right['administrator']) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'AccessDenied' -Message 'An automatic undo is a scheduled task of the system account: registering it needs a member of Administrators')
    }
}

function Get-VswitchPath {
    param([string] $Name)
    $root = Join-Path -Path $env:ProgramData -ChildPath 'vswitch'
    if ($Name -eq '') {
        return $root
    }
    return Join-Path -Path $root -ChildPath $Name
}

function Get-VswitchArmedPath {
    # Beside the data folder, not in it: what the system account runs must be beyond the reach of
    # Hyper-V Administrators, who may write there.
    param([string] $PlanId)
    $root = Join-Path -Path $env:ProgramData -ChildPath 'vswitch-armed'
    if ($PlanId -eq '') {
        return $root
    }
    return Join-Path -Path $root -ChildPath $PlanId
}

function Get-VswitchBackupPath {
    param([string] $PlanId)
    # A file named after a device, whatever its extension, is the device.
    if ($PlanId -cnotmatch '\A(?!(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])\z)[A-Za-z0-9][A-Za-z0-9-]{0,63}\z') {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'BadPlan' -Message 'A plan id is 1 to 64 letters, digits and hyphens, and no name of a device')
    }
    return Join-Path -Path (Get-VswitchPath -Name 'backups') -ChildPath "$PlanId.json"
}

function Test-VswitchFolder {
    # Whether nobody but the trusted groups owns or reaches a folder: any user may create one in ProgramData.
    param([string] $Path, [string[]] $Trusted)
    $directory = New-Object -TypeName 'System.IO.DirectoryInfo' -ArgumentList $Path
    if (([int] $directory.Attributes -band [int] [IO.FileAttributes]::ReparsePoint) -ne 0) {
        return $false
    }
    $security = $directory.GetAccessControl('Owner, Access')
    $kind = [System.Security.Principal.SecurityIdentifier]
    $owner = $security.GetOwner($kind).Value
    $self = [System.Security.Principal.WindowsIdentity]::GetCurrent().User.Value
    $accepted = @($script:SystemSid, $script:AdministratorsSid, $self)
    if ($accepted -notcontains $owner) {
        return $false
    }
    foreach ($rule in $security.GetAccessRules($true, $true, $kind)) {
        $identity = $rule.IdentityReference.Value
        if ($Trusted -notcontains $identity -and $identity -ne $owner) {
            return $false
        }
    }
    return $true
}

function Initialize-VswitchFolder {
    # Creates a folder that only the trusted groups reach; refuses one that somebody else prepared.
    param([string] $Path, [string[]] $Trusted)
    if (-not [IO.Directory]::Exists($Path)) {
        $security = New-Object -TypeName 'System.Security.AccessControl.DirectorySecurity'
        $security.SetAccessRuleProtection($true, $false)
        foreach ($sid in $Trusted) {
            $identity = New-Object -TypeName 'System.Security.Principal.SecurityIdentifier' -ArgumentList $sid
            $arguments = @($identity, 'FullControl', 'ContainerInherit, ObjectInherit', 'None', 'Allow')
            $rule = New-Object -TypeName 'System.Security.AccessControl.FileSystemAccessRule' -ArgumentList $arguments
            $security.AddAccessRule($rule)
        }
        if ((Get-VswitchRight)['administrator']) {
            $owner = New-Object -TypeName 'System.Security.Principal.SecurityIdentifier' -ArgumentList $script:AdministratorsSid
            $security.SetOwner($owner)
        }
        # With its permissions from the first moment: with those of ProgramData any user could put files there.
        $null = [IO.Directory]::CreateDirectory($Path, $security)
    }
    if (-not (Test-VswitchFolder -Path $Path -Trusted $Trusted)) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'UnsafeFolder' -Message "The folder $Path belongs to, or can be changed by, somebody other than Administrators and Hyper-V Administrators")
    }
}

function Initialize-VswitchStore {
    $trusted = @($script:SystemSid, $script:AdministratorsSid, $script:HyperVAdministratorsSid)
    Initialize-VswitchFolder -Path (Get-VswitchPath -Name '') -Trusted $trusted
    Initialize-VswitchFolder -Path (Get-VswitchPath -Name 'backups') -Trusted $trusted
}

function Test-VswitchInUse {
    # Whether a file could not be opened because somebody has it open (32). Nothing else passes by waiting.
    param([System.Management.Automation.ErrorRecord] $Record)
    return ([int] $Record.Exception.GetBaseException().HResult -band 0xFFFF) -eq 32
}

function Open-VswitchFile {
    # An open file; waits while somebody else has it open in a way that does not allow this.
    param([string] $Path, [IO.FileMode] $Mode, [IO.FileAccess] $Access, [IO.FileShare] $Share, [int] $Seconds)
    $waited = [Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        try {
            return [IO.File]::Open($Path, $Mode, $Access, $Share)
        } catch [System.IO.IOException] {
            if (-not (Test-VswitchInUse -Record $_) -or $waited.Elapsed.TotalSeconds -ge $Seconds) {
                throw
            }
        }
        Start-Sleep -Milliseconds 200
    }
}

function Read-VswitchText {
    # The text of a file. It is shared: a reader that is in the way would make a writer's replacing fail.
    param([string] $Path)
    $file = Open-VswitchFile -Path $Path -Mode 'Open' -Access 'Read' -Share 'ReadWrite, Delete' -Seconds 2
    try {
        $reader = New-Object -TypeName 'System.IO.StreamReader' -ArgumentList $file
        return $reader.ReadToEnd()
    } finally {
        $file.Dispose()
    }
}

function Read-VswitchFile {
    # The document in a file, or null where there is no such file.
    param([string] $Path)
    # Replacing is two renames: in between, or if that failed half-way, there is only the new file.
    foreach ($name in @($Path, "$Path.new")) {
        try {
            $document = ConvertFrom-VswitchJson -Text (Read-VswitchText -Path $name)
            if ($null -eq $document) {
                throw 'it holds no document'
            }
            return $document
        } catch [System.IO.FileNotFoundException], [System.IO.DirectoryNotFoundException] {
            continue
        } catch {
            # A new file that is not whole never took the place of anything.
            if ($name -eq $Path) {
                Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'UnreadableFile' -Message "The file $Path cannot be read: $($_.Exception.Message)")
            }
        }
    }
    return $null
}

function Write-VswitchText {
    # Whole or not at all: a new file takes the old one's place.
    param([string] $Path, [string] $Text)
    # It is on the disk before it takes that place: else a power failure could leave an empty one.
    $fresh = "$Path.new"
    $bytes = [Text.Encoding]::ASCII.GetBytes($Text)
    $arguments = @($fresh, [IO.FileMode]::Create, [IO.FileAccess]::Write, [IO.FileShare]::None, 4096, [IO.FileOptions]::WriteThrough)
    $file = New-Object -TypeName 'System.IO.FileStream' -ArgumentList $arguments
    try {
        $file.Write($bytes, 0, $bytes.Length)
        $file.Flush($true)
    } finally {
        $file.Dispose()
    }
    # Whatever looks at every new file, a virus scanner say, may be in the way for a moment.
    $attempt = 1
    while ($true) {
        try {
            if ([IO.File]::Exists($Path)) {
                [IO.File]::Replace($fresh, $Path, [NullString]::Value)
            } else {
                [IO.File]::Move($fresh, $Path)
            }
            return
        } catch {
            if ($attempt -ge 20) {
                throw
            }
        }
        $attempt = $attempt + 1
        Start-Sleep -Milliseconds 100
    }
}

function Write-VswitchFile {
    param([string] $Path, $Document)
    Write-VswitchText -Path $Path -Text (ConvertTo-VswitchJson -InputObject $Document)
}

function Enter-VswitchLock {
    # An open file nobody else can open: it is free again whenever this process ends, however it ends.
    param([int] $Seconds)
    try {
        return Open-VswitchFile -Path (Get-VswitchPath -Name 'lock') -Mode 'OpenOrCreate' -Access 'ReadWrite' -Share 'None' -Seconds $Seconds
    } catch [System.IO.IOException] {
        if (-not (Test-VswitchInUse -Record $_)) {
            throw
        }
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'Busy' -Message 'Another vswitch operation is changing this host')
    }
}

# ------------------------------------------------------------------ ownership record

function Get-VswitchRecord {
    foreach ($record in @(Get-VswitchList -InputObject (Read-VswitchFile -Path (Get-VswitchPath -Name 'owned.json')) -Name 'records')) {
        $record
    }
}

function Test-VswitchRecord {
    # Whether this host has a record. One that says nothing is ours is not the same as one that is lost.
    return $null -ne (Read-VswitchFile -Path (Get-VswitchPath -Name 'owned.json'))
}

function Set-VswitchRecord {
    # Replaces the records of the given adapters; those of others stay as they are on this host.
    param([string[]] $AdapterId, [object[]] $Record)
    $kept = @(Get-VswitchRecord | Where-Object { $AdapterId -notcontains [string] $_.adapter })
    $fresh = @($Record | Where-Object { $AdapterId -contains [string] $_.adapter })
    $document = [ordered]@{
        schema = 1
        records = @($kept + $fresh)
    }
    Write-VswitchFile -Path (Get-VswitchPath -Name 'owned.json') -Document $document
}

# ------------------------------------------------------------------ ACL entries

function ConvertTo-VswitchAddress {
    # One spelling for an address or prefix: ANY, no /32 and no /128, addresses as .NET writes them.
    param([string] $Text)
    if ($Text -eq '' -or $Text -eq 'ANY' -or $Text -eq '*') {
        return 'ANY'
    }
    $parts = $Text.Split('/')
    $address = $null
    if (-not [System.Net.IPAddress]::TryParse($parts[0], [ref] $address)) {
        return $Text.ToUpperInvariant()
    }
    $plain = $address.ToString()
    $full = [string] ($address.GetAddressBytes().Length * 8)
    if ($parts.Length -lt 2 -or $parts[1] -eq $full) {
        return $plain
    }
    return "$plain/$($parts[1])"
}

function ConvertTo-VswitchMac {
    param([string] $Text)
    $digits = ($Text -replace '[^0-9A-Fa-f]', '').ToUpperInvariant()
    return ($digits -replace '(..)(?=.)', '$1-')
}

function ConvertTo-VswitchProtocol {
    param([string] $Text)
    if ($Text -eq '') {
        return 'ANY'
    }
    if ($Text -eq '6') {
        return 'TCP'
    }
    if ($Text -eq '17') {
        return 'UDP'
    }
    return $Text.ToUpperInvariant()
}

function ConvertTo-VswitchPort {
    param([string] $Text)
    if ($Text -eq '') {
        return 'ANY'
    }
    return $Text.ToUpperInvariant()
}

function Get-VswitchExtendedKey {
    # Two extended entries are the same when their keys are.
    param($Entry)
    $timeout = 0
    if ([bool] $Entry.Stateful) {
        $timeout = Get-VswitchNumber -InputObject $Entry -Name 'IdleSessionTimeout'
    }
    $parts = @(
        'extended',
        [int] $Entry.Direction,
        [int] $Entry.Action,
        (ConvertTo-VswitchAddress -Text $Entry.LocalIPAddress),
        (ConvertTo-VswitchAddress -Text $Entry.RemoteIPAddress),
        (ConvertTo-VswitchPort -Text $Entry.LocalPort),
        (ConvertTo-VswitchPort -Text $Entry.RemotePort),
        (ConvertTo-VswitchProtocol -Text $Entry.Protocol),
        [int] $Entry.Weight,
        [bool] $Entry.Stateful,
        $timeout,
        [long] $Entry.IsolationID
    )
    return ($parts -join '|')
}

function Get-VswitchBasicKey {
    # One key, or two where ANY stands for both IP versions: hosts may show it as one entry or as two.
    param($Entry)
    foreach ($side in @('Local', 'Remote')) {
        $type = [int] $Entry."${side}AddressType"
        $text = [string] $Entry."${side}Address"
        $names = @()
        if ($type -eq 1) {
            $names = @("MAC $(ConvertTo-VswitchMac -Text $text)")
        } elseif ($type -eq 2 -or $type -eq 3) {
            $names = @("IP $(ConvertTo-VswitchAddress -Text $text)")
        } elseif ($type -eq 4) {
            $names = @('IP 0.0.0.0/0')
        } elseif ($type -eq 5) {
            $names = @('IP ::/0')
        } elseif ($type -eq 6) {
            $names = @('IP 0.0.0.0/0', 'IP ::/0')
        } elseif ($type -eq 7) {
            $names = @('MAC ANY')
        }
        foreach ($name in $names) {
            @('basic', [int] $Entry.Direction, [int] $Entry.Action, $side, $name) -join '|'
        }
    }
}

function Get-VswitchKey {
    param([string] $Kind, $Entry)
    if ($Kind -eq 'extended') {
        return Get-VswitchExtendedKey -Entry $Entry
    }
    return Get-VswitchBasicKey -Entry $Entry
}

function Get-VswitchAcl {
    # The live objects of one kind at one adapter.
    param($Adapter, [string] $Kind)
    if ($Kind -eq 'extended') {
        Get-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $Adapter -ErrorAction Stop
    } else {
        Get-VMNetworkAdapterAcl -VMNetworkAdapter $Adapter -ErrorAction Stop
    }
}

function Assert-VswitchReadable {
    # PowerShell turns a getter that fails into null. What always has a value must not become 0 or ANY:
    # the entry would be taken for another one.
    param($Acl, [string[]] $Name)
    foreach ($one in $Name) {
        if ($null -eq $Acl.$one) {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'UnreadableEntry' -Message "Hyper-V does not say the $one of an ACL entry")
        }
    }
}

function ConvertTo-VswitchExtendedEntry {
    param($Acl)
    Assert-VswitchReadable -Acl $Acl -Name @('Direction', 'Action', 'Weight', 'Stateful')
    return [ordered]@{
        Direction = Get-VswitchNumber -InputObject $Acl -Name 'Direction'
        Action = Get-VswitchNumber -InputObject $Acl -Name 'Action'
        LocalIPAddress = Get-VswitchText -InputObject $Acl -Name 'LocalIPAddress'
        RemoteIPAddress = Get-VswitchText -InputObject $Acl -Name 'RemoteIPAddress'
        LocalPort = Get-VswitchText -InputObject $Acl -Name 'LocalPort'
        RemotePort = Get-VswitchText -InputObject $Acl -Name 'RemotePort'
        Protocol = Get-VswitchText -InputObject $Acl -Name 'Protocol'
        Weight = Get-VswitchNumber -InputObject $Acl -Name 'Weight'
        Stateful = Get-VswitchFlag -InputObject $Acl -Name 'Stateful'
        IdleSessionTimeout = Get-VswitchNumber -InputObject $Acl -Name 'IdleSessionTimeout'
        IsolationID = Get-VswitchNumber -InputObject $Acl -Name 'IsolationID'
    }
}

function ConvertTo-VswitchBasicEntry {
    param($Acl)
    Assert-VswitchReadable -Acl $Acl -Name @('Direction', 'Action', 'LocalAddressType', 'RemoteAddressType')
    return [ordered]@{
        Direction = Get-VswitchNumber -InputObject $Acl -Name 'Direction'
        Action = Get-VswitchNumber -InputObject $Acl -Name 'Action'
        LocalAddress = Get-VswitchText -InputObject $Acl -Name 'LocalAddress'
        LocalAddressType = Get-VswitchNumber -InputObject $Acl -Name 'LocalAddressType'
        RemoteAddress = Get-VswitchText -InputObject $Acl -Name 'RemoteAddress'
        RemoteAddressType = Get-VswitchNumber -InputObject $Acl -Name 'RemoteAddressType'
        MeteredMegabytes = Get-VswitchText -InputObject $Acl -Name 'MeteredMegabytes'
    }
}

function Read-VswitchEntry {
    # Both kinds of entries of one adapter, as data.
    param($Adapter)
    $extended = @(foreach ($acl in @(Get-VswitchAcl -Adapter $Adapter -Kind 'extended')) {
        ConvertTo-VswitchExtendedEntry -Acl $acl
    })
    $basic = @(foreach ($acl in @(Get-VswitchAcl -Adapter $Adapter -Kind 'basic')) {
        ConvertTo-VswitchBasicEntry -Acl $acl
    })
    return [ordered]@{
        acls = $basic
        extendedAcls = $extended
    }
}

function Find-VswitchAcl {
    # The live objects that together are exactly this entry: none, one, or two for ANY shown per IP version.
    # Never more than that: of two equal ones, or of an ANY beside its half, one is somebody else's.
    param($Adapter, [string] $Kind, $Entry)
    $wanted = @(Get-VswitchKey -Kind $Kind -Entry $Entry)
    $halves = @()
    foreach ($acl in @(Get-VswitchAcl -Adapter $Adapter -Kind $Kind)) {
        # Most are told apart by a number; to read one whole takes a thousand times as long.
        if ([int] $acl.Direction -ne [int] $Entry.Direction -or ($Kind -eq 'extended' -and [int] $acl.Weight -ne [int] $Entry.Weight)) {
            continue
        }
        if ($Kind -eq 'extended') {
            $found = ConvertTo-VswitchExtendedEntry -Acl $acl
        } else {
            $found = ConvertTo-VswitchBasicEntry -Acl $acl
        }
        $keys = @(Get-VswitchKey -Kind $Kind -Entry $found)
        $foreign = @($keys | Where-Object { $wanted -cnotcontains $_ })
        if ($foreign.Count -gt 0 -or $keys.Count -eq 0) {
            continue
        }
        if ($keys.Count -eq $wanted.Count) {
            return $acl
        }
        $halves += @{ key = $keys[0]; acl = $acl }
    }
    foreach ($key in $wanted) {
        $half = @($halves | Where-Object { $_['key'] -ceq $key })
        if ($half.Count -gt 0) {
            $half[0]['acl']
        }
    }
}

function Get-VswitchMissing {
    # What of an entry is not among the live objects found for it: all, nothing, or one half of an ANY.
    param([string] $Kind, $Entry, [object[]] $Found)
    if ($Found.Count -eq 0) {
        return $Entry
    }
    if ($Kind -eq 'extended') {
        return
    }
    $keys = @(foreach ($acl in $Found) {
        Get-VswitchBasicKey -Entry (ConvertTo-VswitchBasicEntry -Acl $acl)
    })
    foreach ($type in @(4, 5)) {
        $half = [ordered]@{ Direction = $Entry.Direction; Action = $Entry.Action; LocalAddress = ''; LocalAddressType = 0; RemoteAddress = ''; RemoteAddressType = 0 }
        if ([int] $Entry.LocalAddressType -eq 6) {
            $half['LocalAddressType'] = $type
        } elseif ([int] $Entry.RemoteAddressType -eq 6) {
            $half['RemoteAddressType'] = $type
        } else {
            return
        }
        if ($keys -cnotcontains (Get-VswitchBasicKey -Entry $half)) {
            $half
        }
    }
}

function Add-VswitchExtendedEntry {
    # What is ANY is left out. Stateful takes a value: it is a Boolean, not a switch.
    param($Adapter, $Entry)
    $arguments = @{
        VMNetworkAdapter = $Adapter
        Action = @('', 'Allow', 'Deny')[[int] $Entry.Action]
        Direction = @('', 'Inbound', 'Outbound')[[int] $Entry.Direction]
        Weight = [int] $Entry.Weight
        ErrorAction = 'Stop'
    }
    $local = ConvertTo-VswitchAddress -Text $Entry.LocalIPAddress
    if ($local -ne 'ANY') {
        $arguments['LocalIPAddress'] = $local
    }
    $remote = ConvertTo-VswitchAddress -Text $Entry.RemoteIPAddress
    if ($remote -ne 'ANY') {
        $arguments['RemoteIPAddress'] = $remote
    }
    $localPort = ConvertTo-VswitchPort -Text $Entry.LocalPort
    if ($localPort -ne 'ANY') {
        $arguments['LocalPort'] = $localPort
    }
    $remotePort = ConvertTo-VswitchPort -Text $Entry.RemotePort
    if ($remotePort -ne 'ANY') {
        $arguments['RemotePort'] = $remotePort
    }
    $protocol = ConvertTo-VswitchProtocol -Text $Entry.Protocol
    if ($protocol -ne 'ANY') {
        $arguments['Protocol'] = $protocol
    }
    if ([bool] $Entry.Stateful) {
        $arguments['Stateful'] = $true
        $arguments['IdleSessionTimeout'] = [int] $Entry.IdleSessionTimeout
    }
    if ([int] $Entry.IsolationID -ne 0) {
        $arguments['IsolationID'] = [int] $Entry.IsolationID
    }
    $null = Add-VMNetworkAdapterExtendedAcl @arguments
}

function Add-VswitchBasicEntry {
    # The parameter is named by side and kind: LocalIPAddress, RemoteIPAddress, LocalMacAddress, RemoteMacAddress.
    param($Adapter, $Entry)
    $arguments = @{
        VMNetworkAdapter = $Adapter
        Action = @('', 'Allow', 'Deny', 'Meter')[[int] $Entry.Action]
        Direction = @('', 'Inbound', 'Outbound')[[int] $Entry.Direction]
        ErrorAction = 'Stop'
    }
    $isLocal = [int] $Entry.LocalAddressType -ne 0
    if ($isLocal) {
        $type = [int] $Entry.LocalAddressType
        $text = [string] $Entry.LocalAddress
    } else {
        $type = [int] $Entry.RemoteAddressType
        $text = [string] $Entry.RemoteAddress
    }
    $isMac = $type -eq 1 -or $type -eq 7
    if ($type -eq 1) {
        $address = ConvertTo-VswitchMac -Text $text
    } elseif ($type -eq 4) {
        $address = '0.0.0.0/0'
    } elseif ($type -eq 5) {
        $address = '::/0'
    } elseif ($type -eq 6 -or $type -eq 7) {
        $address = 'ANY'
    } else {
        $address = ConvertTo-VswitchAddress -Text $text
    }
    if ($isLocal -and $isMac) {
        $arguments['LocalMacAddress'] = $address
    } elseif ($isLocal) {
        $arguments['LocalIPAddress'] = $address
    } elseif ($isMac) {
        $arguments['RemoteMacAddress'] = $address
    } else {
        $arguments['RemoteIPAddress'] = $address
    }
    $null = Add-VMNetworkAdapterAcl @arguments
}

function Add-VswitchEntry {
    param($Adapter, [string] $Kind, $Entry)
    if ($Kind -eq 'extended') {
        Add-VswitchExtendedEntry -Adapter $Adapter -Entry $Entry
    } else {
        Add-VswitchBasicEntry -Adapter $Adapter -Entry $Entry
    }
}

function Remove-VswitchEntry {
    # Removes the very objects found, not whatever shares their weight.
    param([string] $Kind, [object[]] $Acl)
    if ($Kind -eq 'extended') {
        $null = Remove-VMNetworkAdapterExtendedAcl -InputObject $Acl -ErrorAction Stop
    } else {
        $null = Remove-VMNetworkAdapterAcl -InputObject $Acl -ErrorAction Stop
    }
}

# ------------------------------------------------------------------ reading the host

function Get-VswitchAdapter {
    # Every adapter of every VM and of the management OS.
    $machines = @(Get-VM -ErrorAction Stop)
    if ($machines.Count -gt 0) {
        Get-VMNetworkAdapter -VM $machines -ErrorAction Stop
    }
    Get-VMNetworkAdapter -ManagementOS -ErrorAction Stop
}

function Find-VswitchAdapter {
    # The live adapters of a plan by Id; an adapter that is gone is simply not among them.
    param([string[]] $Id)
    $found = @{}
    foreach ($adapter in @(Get-VswitchAdapter)) {
        $name = [string] $adapter.Id
        if ($Id -contains $name) {
            $found[$name] = $adapter
        }
    }
    return $found
}

function Read-VswitchSwitch {
    foreach ($virtualSwitch in @(Get-VMSwitch -ErrorAction Stop)) {
        $extensions = @(foreach ($extension in @(Get-VswitchList -InputObject $virtualSwitch -Name 'Extensions')) {
            [ordered]@{
                Name = Get-VswitchText -InputObject $extension -Name 'Name'
                ExtensionType = Get-VswitchNumber -InputObject $extension -Name 'ExtensionType'
                Enabled = Get-VswitchFlag -InputObject $extension -Name 'Enabled'
            }
        })
        [ordered]@{
            Id = Get-VswitchGuid -InputObject $virtualSwitch -Name 'Id'
            Name = Get-VswitchText -InputObject $virtualSwitch -Name 'Name'
            SwitchType = Get-VswitchNumber -InputObject $virtualSwitch -Name 'SwitchType'
            AllowManagementOS = Get-VswitchFlag -InputObject $virtualSwitch -Name 'AllowManagementOS'
            EmbeddedTeamingEnabled = Get-VswitchFlag -InputObject $virtualSwitch -Name 'EmbeddedTeamingEnabled'
            IovEnabled = Get-VswitchFlag -InputObject $virtualSwitch -Name 'IovEnabled'
            BandwidthReservationMode = Get-VswitchNumber -InputObject $virtualSwitch -Name 'BandwidthReservationMode'
            NetAdapterInterfaceDescriptions = @(Get-VswitchList -InputObject $virtualSwitch -Name 'NetAdapterInterfaceDescriptions' | ForEach-Object { [string] $_ })
            Notes = Get-VswitchText -InputObject $virtualSwitch -Name 'Notes'
            Extensions = $extensions
        }
    }
}

function Read-VswitchTeam {
    foreach ($team in @(Get-VMSwitchTeam -ErrorAction Stop)) {
        [ordered]@{
            Id = Get-VswitchGuid -InputObject $team -Name 'Id'
            Name = Get-VswitchText -InputObject $team -Name 'Name'
            TeamingMode = Get-VswitchNumber -InputObject $team -Name 'TeamingMode'
            LoadBalancingAlgorithm = Get-VswitchNumber -InputObject $team -Name 'LoadBalancingAlgorithm'
            NetAdapterInterfaceDescriptions = @(Get-VswitchList -InputObject $team -Name 'NetAdapterInterfaceDescription' | ForEach-Object { [string] $_ })
        }
    }
}

function Read-VswitchMachine {
    foreach ($machine in @(Get-VM -ErrorAction Stop)) {
        [ordered]@{
            Id = Get-VswitchGuid -InputObject $machine -Name 'Id'
            Name = Get-VswitchText -InputObject $machine -Name 'Name'
            State = Get-VswitchNumber -InputObject $machine -Name 'State'
            Generation = Get-VswitchNumber -InputObject $machine -Name 'Generation'
        }
    }
}

function Read-VswitchVlan {
    param($Adapter)
    $setting = @(Get-VMNetworkAdapterVlan -VMNetworkAdapter $Adapter -ErrorAction Stop)[0]
    return [ordered]@{
        OperationMode = Get-VswitchNumber -InputObject $setting -Name 'OperationMode'
        AccessVlanId = Get-VswitchNumber -InputObject $setting -Name 'AccessVlanId'
        NativeVlanId = Get-VswitchNumber -InputObject $setting -Name 'NativeVlanId'
        AllowedVlanIdList = @(Get-VswitchList -InputObject $setting -Name 'AllowedVlanIdList' | ForEach-Object { [int] $_ })
        PrivateVlanMode = Get-VswitchNumber -InputObject $setting -Name 'PrivateVlanMode'
        PrimaryVlanId = Get-VswitchNumber -InputObject $setting -Name 'PrimaryVlanId'
        SecondaryVlanId = Get-VswitchNumber -InputObject $setting -Name 'SecondaryVlanId'
        SecondaryVlanIdList = @(Get-VswitchList -InputObject $setting -Name 'SecondaryVlanIdList' | ForEach-Object { [int] $_ })
        IsTemplate = Get-VswitchFlag -InputObject $setting -Name 'IsTemplate'
    }
}

function Read-VswitchIsolation {
    param($Adapter)
    $setting = @(Get-VMNetworkAdapterIsolation -VMNetworkAdapter $Adapter -ErrorAction Stop)[0]
    return [ordered]@{
        IsolationMode = Get-VswitchNumber -InputObject $setting -Name 'IsolationMode'
        AllowUntaggedTraffic = Get-VswitchFlag -InputObject $setting -Name 'AllowUntaggedTraffic'
        DefaultIsolationID = Get-VswitchNumber -InputObject $setting -Name 'DefaultIsolationID'
        MultiTenantStack = Get-VswitchNumber -InputObject $setting -Name 'MultiTenantStack' -Default 1
        IsTemplate = Get-VswitchFlag -InputObject $setting -Name 'IsTemplate'
    }
}

function Read-VswitchAdapter {
    param($Adapter)
    $isManagement = Get-VswitchFlag -InputObject $Adapter -Name 'IsManagementOs'
    $machineName = $null
    if (-not $isManagement) {
        $machineName = Get-VswitchText -InputObject $Adapter -Name 'VMName'
    }
    # Null as a whole where neither a limit nor a reservation was ever set.
    $bandwidth = Get-VswitchValue -InputObject $Adapter -Name 'BandwidthSetting' -Default $null
    $state = [ordered]@{
        Id = Get-VswitchText -InputObject $Adapter -Name 'Id'
        Name = Get-VswitchText -InputObject $Adapter -Name 'Name'
        VMId = Get-VswitchGuid -InputObject $Adapter -Name 'VMId'
        VMName = $machineName
        IsManagementOs = $isManagement
        SwitchName = Get-VswitchText -InputObject $Adapter -Name 'SwitchName'
        SwitchId = Get-VswitchGuid -InputObject $Adapter -Name 'SwitchId'
        Connected = Get-VswitchFlag -InputObject $Adapter -Name 'Connected'
        MacAddress = Get-VswitchText -InputObject $Adapter -Name 'MacAddress'
        DynamicMacAddressEnabled = Get-VswitchFlag -InputObject $Adapter -Name 'DynamicMacAddressEnabled'
        IPAddresses = @(Get-VswitchList -InputObject $Adapter -Name 'IPAddresses' | ForEach-Object { [string] $_ })
        MacAddressSpoofing = Get-VswitchNumber -InputObject $Adapter -Name 'MacAddressSpoofing' -Default 1
        DhcpGuard = Get-VswitchNumber -InputObject $Adapter -Name 'DhcpGuard' -Default 1
        RouterGuard = Get-VswitchNumber -InputObject $Adapter -Name 'RouterGuard' -Default 1
        AllowTeaming = Get-VswitchNumber -InputObject $Adapter -Name 'AllowTeaming' -Default 1
        PortMirroringMode = Get-VswitchNumber -InputObject $Adapter -Name 'PortMirroringMode'
        IeeePriorityTag = Get-VswitchNumber -InputObject $Adapter -Name 'IeeePriorityTag' -Default 1
        StormLimit = Get-VswitchNumber -InputObject $Adapter -Name 'StormLimit'
        BandwidthSetting = [ordered]@{
            MaximumBandwidth = Get-VswitchNumber -InputObject $bandwidth -Name 'MaximumBandwidth'
            MinimumBandwidthAbsolute = Get-VswitchNumber -InputObject $bandwidth -Name 'MinimumBandwidthAbsolute'
            MinimumBandwidthWeight = Get-VswitchNumber -InputObject $bandwidth -Name 'MinimumBandwidthWeight'
        }
        DynamicIPAddressLimit = Get-VswitchNumber -InputObject $Adapter -Name 'DynamicIPAddressLimit'
        IovWeight = Get-VswitchNumber -InputObject $Adapter -Name 'IovWeight'
        VFDataPathActive = Get-VswitchFlag -InputObject $Adapter -Name 'VFDataPathActive'
        vlan = Read-VswitchVlan -Adapter $Adapter
        isolation = Read-VswitchIsolation -Adapter $Adapter
    }
    $entries = Read-VswitchEntry -Adapter $Adapter
    $state['acls'] = $entries['acls']
    $state['extendedAcls'] = $entries['extendedAcls']
    return $state
}

function Read-VswitchAddress {
    # Hyper-V tells the addresses of guests; those of the management OS are the host's own, told by MAC.
    $macs = @{}
    foreach ($nic in @(Get-NetAdapter -ErrorAction Stop)) {
        $index = Get-VswitchNumber -InputObject $nic -Name 'InterfaceIndex'
        $macs["$index"] = Get-VswitchText -InputObject $nic -Name 'MacAddress'
    }
    foreach ($address in @(Get-NetIPAddress -ErrorAction Stop)) {
        $index = Get-VswitchNumber -InputObject $address -Name 'InterfaceIndex'
        if ($macs.Keys -contains "$index") {
            [ordered]@{
                MacAddress = $macs["$index"]
                IPAddress = Get-VswitchText -InputObject $address -Name 'IPAddress'
                PrefixLength = Get-VswitchNumber -InputObject $address -Name 'PrefixLength'
            }
        }
    }
}

function Read-VswitchNat {
    foreach ($nat in @(Get-NetNat -ErrorAction Stop)) {
        $name = Get-VswitchText -InputObject $nat -Name 'Name'
        $mappings = @(foreach ($mapping in @(Get-NetNatStaticMapping -ErrorAction Stop)) {
            if ((Get-VswitchText -InputObject $mapping -Name 'NatName') -eq $name) {
                [ordered]@{
                    Protocol = Get-VswitchText -InputObject $mapping -Name 'Protocol'
                    ExternalIPAddress = Get-VswitchText -InputObject $mapping -Name 'ExternalIPAddress'
                    ExternalPort = Get-VswitchNumber -InputObject $mapping -Name 'ExternalPort'
                    InternalIPAddress = Get-VswitchText -InputObject $mapping -Name 'InternalIPAddress'
                    InternalPort = Get-VswitchNumber -InputObject $mapping -Name 'InternalPort'
                    RemoteExternalIPAddressPrefix = Get-VswitchText -InputObject $mapping -Name 'RemoteExternalIPAddressPrefix'
                }
            }
        })
        [ordered]@{
            Name = $name
            InternalIPInterfaceAddressPrefix = Get-VswitchText -InputObject $nat -Name 'InternalIPInterfaceAddressPrefix'
            ExternalIPInterfaceAddressPrefix = Get-VswitchText -InputObject $nat -Name 'ExternalIPInterfaceAddressPrefix'
            TcpFilteringBehavior = Get-VswitchText -InputObject $nat -Name 'TcpFilteringBehavior'
            UdpFilteringBehavior = Get-VswitchText -InputObject $nat -Name 'UdpFilteringBehavior'
            IcmpQueryTimeout = Get-VswitchNumber -InputObject $nat -Name 'IcmpQueryTimeout'
            TcpEstablishedConnectionTimeout = Get-VswitchNumber -InputObject $nat -Name 'TcpEstablishedConnectionTimeout'
            TcpTransientConnectionTimeout = Get-VswitchNumber -InputObject $nat -Name 'TcpTransientConnectionTimeout'
            UdpIdleSessionTimeout = Get-VswitchNumber -InputObject $nat -Name 'UdpIdleSessionTimeout'
            mappings = $mappings
        }
    }
}

function Read-VswitchRecord {
    $root = Get-VswitchPath -Name ''
    if ([IO.Directory]::Exists($root)) {
        $trusted = @($script:SystemSid, $script:AdministratorsSid, $script:HyperVAdministratorsSid)
        Initialize-VswitchFolder -Path $root -Trusted $trusted
        Get-VswitchRecord
    }
}

function Export-VswitchState {
    <#
    .SYNOPSIS
    Reads everything the vswitch project knows of this host. Changes nothing.
    .DESCRIPTION
    Switches, teams, VMs, network adapters with their port settings, VLAN, isolation, basic and
    extended ACLs, the host's own addresses, NAT networks, and the record of the rules vswitch has
    written. Enumerations are numbers (OnOffState On is 0), lists are always lists. A part that the
    account may not read (teams, addresses, NAT, the record) is named in "unread" and left empty.
    "recorded" is false only where there is no record at all: none was ever made, or it is lost.
    .PARAMETER Path
    A file to write the state to, as JSON. Without it the state is returned as an object.
    .OUTPUTS
    The state as an ordered dictionary, or nothing when Path is given.
    .EXAMPLE
    Export-VswitchState -Path C:\Temp\hv01.json
    #>
    [CmdletBinding()]
    param([string] $Path = '')
    Initialize-VswitchHost
    $unread = @()
    $teams = @()
    try {
        $teams = @(Read-VswitchTeam)
    } catch {
        $unread += [ordered]@{ part = 'teams'; message = [string] $_.Exception.Message }
    }
    $addresses = @()
    try {
        $addresses = @(Read-VswitchAddress)
    } catch {
        $unread += [ordered]@{ part = 'addresses'; message = [string] $_.Exception.Message }
    }
    $nats = @()
    try {
        $nats = @(Read-VswitchNat)
    } catch {
        $unread += [ordered]@{ part = 'nats'; message = [string] $_.Exception.Message }
    }
    $records = @()
    $recorded = $true
    try {
        $records = @(Read-VswitchRecord)
        $recorded = Test-VswitchRecord
    } catch {
        $unread += [ordered]@{ part = 'records'; message = [string] $_.Exception.Message }
    }
    $adapters = @(foreach ($adapter in @(Get-VswitchAdapter)) {
        Read-VswitchAdapter -Adapter $adapter
    })
    $state = [ordered]@{
        schema = 1
        computer = [Environment]::MachineName
        os = [Environment]::OSVersion.VersionString
        moduleVersion = $script:ModuleVersion
        time = Get-VswitchTime
        rights = Get-VswitchRight
        switches = @(Read-VswitchSwitch)
        teams = $teams
        vms = @(Read-VswitchMachine)
        adapters = $adapters
        addresses = $addresses
        nats = $nats
        records = $records
        recorded = $recorded
        unread = @($unread)
    }
    if ($Path -eq '') {
        return $state
    }
    [IO.File]::WriteAllText($ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path), (ConvertTo-VswitchJson -InputObject $state))
}

# ------------------------------------------------------------------ automatic undo

function Get-VswitchModuleText {
    # This module's own text, whether it came from a file or from memory.
    $tree = (Get-Command -Name 'Invoke-VswitchOperation' -CommandType Function).ScriptBlock.Ast
    while ($null -ne $tree.Parent) {
        $tree = $tree.Parent
    }
    return $tree.Extent.Text
}

function Get-VswitchUndoScript {
    # What the system account runs; $folder is set by the task's command line, its name is the plan's id.
    # Right after a restart Hyper-V may not answer yet, a disk may be full: a failure is tried again for a day.
    return @'
$ErrorActionPreference = 'Stop'
$planId = [IO.Path]::GetFileName($folder)
$text = [IO.File]::ReadAllText((Join-Path -Path $folder -ChildPath 'Vswitch.psm1'))
$null = New-Module -Name 'Vswitch' -ScriptBlock ([scriptblock]::Create($text))
$failures = 0
while ($failures -lt 2880) {
    try {
        $result = Undo-VswitchPlan -PlanId $planId -IfDue
        if ($null -eq $result['armedUntil']) {
            exit 0
        }
    } catch {
        $failures = $failures + 1
    }
    Start-Sleep -Seconds 30
}
exit 1
'@
}

function Save-VswitchUndo {
    # What an automatic undo needs, written once and whole, before anything relies on it.
    param([string] $PlanId)
    $folder = Get-VswitchArmedPath -PlanId $PlanId
    $trusted = @($script:SystemSid, $script:AdministratorsSid)
    Initialize-VswitchFolder -Path (Get-VswitchArmedPath -PlanId '') -Trusted $trusted
    Initialize-VswitchFolder -Path $folder -Trusted $trusted
    Write-VswitchText -Path (Join-Path -Path $folder -ChildPath 'Vswitch.psm1') -Text (Get-VswitchModuleText)
    Write-VswitchText -Path (Join-Path -Path $folder -ChildPath 'undo.ps1') -Text (Get-VswitchUndoScript)
}

function Register-VswitchUndo {
    # A task of the system account that undoes the plan unless it has been confirmed by then. Its command
    # line holds nothing but the path of its script, and reads it as text: a group policy that wants
    # signed script files would else keep it from running, whatever -ExecutionPolicy says.
    param([string] $PlanId, [string] $Until)
    $file = "vswitch-armed\$PlanId"
    $engine = Join-Path -Path $env:SystemRoot -ChildPath 'System32\WindowsPowerShell\v1.0\powershell.exe'
    $action = New-ScheduledTaskAction -Execute $engine -Argument "-NoProfile -NonInteractive -Command `"`$folder = Join-Path `$env:ProgramData '$file'; & ([scriptblock]::Create([IO.File]::ReadAllText((Join-Path `$folder 'undo.ps1'))))`"" -ErrorAction Stop
    $trigger = New-ScheduledTaskTrigger -Once -At ([DateTime]::Now.AddDays(1)) -ErrorAction Stop
    $trigger.StartBoundary = $Until
    # A time missed while the host was down is not made up for (StartWhenAvailable needs an end boundary),
    # and a run that a crash cut short is not repeated: after a restart the script waits for its time itself.
    $restarted = New-ScheduledTaskTrigger -AtStartup -ErrorAction Stop
    $principal = New-ScheduledTaskPrincipal -UserId $script:SystemSid -LogonType ServiceAccount -RunLevel Highest -ErrorAction Stop
    # Queue: a first run that came while the plan was still being applied must not swallow the second.
    $settings = New-ScheduledTaskSettingsSet -StartWhenAvailable -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -MultipleInstances Queue -ErrorAction Stop
    $arguments = @{
        TaskName = "undo $PlanId"
        TaskPath = $script:TaskPath
        Action = $action
        Trigger = @($trigger, $restarted)
        Principal = $principal
        Settings = $settings
        Force = $true
        ErrorAction = 'Stop'
    }
    $null = Register-ScheduledTask @arguments
}

function Unregister-VswitchUndo {
    # A task that stays behind does nothing: it only undoes what the backup says is still armed.
    param([string] $PlanId)
    $folder = Get-VswitchArmedPath -PlanId $PlanId
    try {
        Unregister-ScheduledTask -TaskName "undo $PlanId" -TaskPath $script:TaskPath -Confirm:$false -ErrorAction Stop
        if ([IO.Directory]::Exists($folder)) {
            [IO.Directory]::Delete($folder, $true)
        }
    } catch {
        Write-Verbose -Message "The task of plan $PlanId stays: $($_.Exception.Message)"
    }
}

# ------------------------------------------------------------------ backups

function Get-VswitchBackupDocument {
    param([string] $PlanId)
    $document = Read-VswitchFile -Path (Get-VswitchBackupPath -PlanId $PlanId)
    if ($null -eq $document) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'NotFound' -Message "This host has no backup of plan $PlanId")
    }
    return $document
}

function Get-VswitchBackupSummary {
    param($Backup)
    $adapters = @(foreach ($adapter in @(Get-VswitchList -InputObject $Backup -Name 'adapters')) {
        [ordered]@{
            id = [string] $adapter.id
            name = [string] $adapter.name
            vmName = Get-VswitchValue -InputObject $adapter -Name 'vmName' -Default $null
        }
    })
    $armed = Get-VswitchTimeText -InputObject $Backup -Name 'armedUntil'
    if ($armed -eq '') {
        $armed = $null
    }
    $done = Get-VswitchNumber -InputObject $Backup -Name 'stepsDone'
    if ([string] $Backup.state -eq 'applying') {
        $done = Get-VswitchProgress -PlanId ([string] $Backup.planId)
    }
    return [ordered]@{
        planId = [string] $Backup.planId
        createdAt = Get-VswitchTimeText -InputObject $Backup -Name 'createdAt'
        sequence = [long] $Backup.sequence
        policyDigest = Get-VswitchText -InputObject $Backup -Name 'policyDigest'
        state = [string] $Backup.state
        stepsDone = $done
        steps = @(Get-VswitchList -InputObject $Backup.plan -Name 'steps').Count
        armedUntil = $armed
        adapters = $adapters
    }
}

function Get-VswitchBackup {
    <#
    .SYNOPSIS
    Lists the backups vswitch has made on this host, newest first, or shows one whole.
    .PARAMETER PlanId
    The plan whose backup is wanted with all it holds: the adapters' entries as they were, the
    ownership record as it was, and the plan.
    .OUTPUTS
    One ordered dictionary per backup: plan id, time, state (applying, applied, confirmed, undone,
    failed, unreadable), until when an automatic undo is armed, adapters.
    .EXAMPLE
    Get-VswitchBackup
    #>
    [CmdletBinding()]
    param([string] $PlanId = '')
    if ($PlanId -ne '') {
        return Get-VswitchBackupDocument -PlanId $PlanId
    }
    $folder = Get-VswitchPath -Name 'backups'
    if (-not [IO.Directory]::Exists($folder)) {
        return
    }
    $found = @([IO.Directory]::GetFiles($folder) | ForEach-Object { $_ -replace '\.new\z', '' } | Where-Object { $_ -like '*.json' } | Sort-Object -Unique)
    $summaries = @(foreach ($path in $found) {
        try {
            $document = Read-VswitchFile -Path $path
            if ($null -ne $document) {
                Get-VswitchBackupSummary -Backup $document
            }
        } catch {
            # One damaged file must not stand in the way of the others, least of all of an automatic undo.
            [ordered]@{
                planId = [IO.Path]::GetFileNameWithoutExtension($path)
                createdAt = ''
                sequence = [long] 0
                policyDigest = ''
                state = 'unreadable'
                stepsDone = 0
                steps = 0
                armedUntil = $null
                adapters = @()
            }
        }
    })
    $summaries | Sort-Object -Property { $_['sequence'] } -Descending
}

# ------------------------------------------------------------------ plans

function Get-VswitchStepKind {
    param($Step)
    $operation = [string] $Step.op
    if ($operation -ceq 'addExtended' -or $operation -ceq 'removeExtended') {
        return 'extended'
    }
    if ($operation -ceq 'addBasic' -or $operation -ceq 'removeBasic') {
        return 'basic'
    }
    Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'BadPlan' -Message "A plan has no operation '$operation'")
}

function Test-VswitchAddition {
    param($Step)
    return ([string] $Step.op).StartsWith('add', [StringComparison]::Ordinal)
}

function Get-VswitchKeyText {
    # All entries of an adapter as one comparable text, whatever their order.
    param([object[]] $Basic, [object[]] $Extended)
    $keys = @(foreach ($entry in $Basic) {
        Get-VswitchBasicKey -Entry $entry
    })
    $keys += @(foreach ($entry in $Extended) {
        Get-VswitchExtendedKey -Entry $entry
    })
    $sorted = [string[]] $keys
    [Array]::Sort($sorted, [StringComparer]::Ordinal)
    return ($sorted -join "`n")
}

function Get-VswitchRecordText {
    # What records say is ours at an adapter, as one comparable text. What has not the form of an entry
    # owns nothing, and an entry in several records counts once.
    param([object[]] $Record, [string] $AdapterId)
    $keys = @(foreach ($one in $Record) {
        if ((Get-VswitchText -InputObject $one -Name 'adapter') -eq $AdapterId) {
            foreach ($entry in @(Get-VswitchList -InputObject $one -Name 'entries')) {
                $kind = Get-VswitchText -InputObject $entry -Name 'kind'
                if (Test-VswitchEntry -Kind $kind -Entry $entry) {
                    Get-VswitchKey -Kind $kind -Entry $entry
                }
            }
        }
    })
    $sorted = [string[]] @($keys | Sort-Object -Unique -CaseSensitive)
    [Array]::Sort($sorted, [StringComparer]::Ordinal)
    return ($sorted -join "`n")
}

function Get-VswitchPlannedText {
    # The same for what the plan makes of an adapter.
    param($Plan, [string] $AdapterId, [string] $Before)
    $keys = New-Object -TypeName 'System.Collections.Generic.List[string]'
    if ($Before -ne '') {
        $keys.AddRange([string[]] $Before.Split("`n"))
    }
    foreach ($step in @(Get-VswitchList -InputObject $Plan -Name 'steps')) {
        if ([string] $step.adapter -ne $AdapterId) {
            continue
        }
        foreach ($key in @(Get-VswitchKey -Kind (Get-VswitchStepKind -Step $step) -Entry $step.entry)) {
            if (Test-VswitchAddition -Step $step) {
                $keys.Add($key)
            } else {
                $null = $keys.Remove($key)
            }
        }
    }
    $keys.Sort([StringComparer]::Ordinal)
    return ($keys -join "`n")
}

function Get-VswitchResult {
    # What a caller is told: every adapter of the plan, read back now, and which state that is.
    # After a failure an adapter that cannot be read must not hide the others: it is "unread".
    param($Backup, $Live, [int] $StepsDone, [bool] $Undone, [switch] $AfterFailure)
    $adapters = @(foreach ($adapter in @(Get-VswitchList -InputObject $Backup -Name 'adapters')) {
        $id = [string] $adapter.id
        $state = 'gone'
        $entries = [ordered]@{ acls = @(); extendedAcls = @() }
        if ($Live.ContainsKey($id)) {
            $state = 'unread'
            try {
                $entries = Read-VswitchEntry -Adapter $Live[$id]
                $state = 'other'
            } catch {
                if (-not $AfterFailure) {
                    throw
                }
            }
        }
        if ($state -eq 'other') {
            $text = Get-VswitchKeyText -Basic @($entries['acls']) -Extended @($entries['extendedAcls'])
            $before = Get-VswitchKeyText -Basic @(Get-VswitchList -InputObject $adapter -Name 'acls') -Extended @(Get-VswitchList -InputObject $adapter -Name 'extendedAcls')
            $planned = Get-VswitchPlannedText -Plan $Backup.plan -AdapterId $id -Before $before
            if ($text -ceq $planned) {
                $state = 'new'
            }
            if ($text -ceq $before -and ($Undone -or $state -ne 'new')) {
                $state = 'old'
            }
        }
        [ordered]@{
            id = $id
            name = [string] $adapter.name
            state = $state
            acls = $entries['acls']
            extendedAcls = $entries['extendedAcls']
        }
    })
    $armed = Get-VswitchTimeText -InputObject $Backup -Name 'armedUntil'
    if ($armed -eq '') {
        $armed = $null
    }
    return [ordered]@{
        planId = [string] $Backup.planId
        stepsDone = $StepsDone
        undone = $Undone
        adapters = $adapters
        armedUntil = $armed
        errors = @()
    }
}

function Get-VswitchProgressPath {
    param([string] $PlanId)
    return Join-Path -Path (Get-VswitchPath -Name 'backups') -ChildPath "$PlanId.steps"
}

function Get-VswitchProgress {
    # How many steps of a plan were begun: one byte in a file for each.
    param([string] $PlanId)
    $path = Get-VswitchProgressPath -PlanId $PlanId
    if (-not [IO.File]::Exists($path)) {
        return 0
    }
    return (New-Object -TypeName 'System.IO.FileInfo' -ArgumentList $path).Length
}

function Add-VswitchProgress {
    # On the disk before the step begins, so that an undo after a crash knows how far to go back.
    param([string] $PlanId)
    # Enumeration members, not their names: FileStream has overloads that names would fit as well.
    $path = Get-VswitchProgressPath -PlanId $PlanId
    $arguments = @($path, [IO.FileMode]::Append, [IO.FileAccess]::Write, [IO.FileShare]::Read, 16, [IO.FileOptions]::WriteThrough)
    $file = New-Object -TypeName 'System.IO.FileStream' -ArgumentList $arguments
    try {
        $file.WriteByte(46)
        $file.Flush($true)
    } finally {
        $file.Dispose()
    }
}

function Save-VswitchBackup {
    param($Backup)
    Write-VswitchFile -Path (Get-VswitchBackupPath -PlanId ([string] $Backup['planId'])) -Document $Backup
}

function ConvertTo-VswitchBackup {
    # A backup read from its file, in a form that can be changed and saved again.
    param($Document)
    $backup = [ordered]@{}
    foreach ($name in @('schema', 'planId', 'host', 'policyDigest', 'sequence', 'stepsDone', 'plan')) {
        $backup[$name] = Get-VswitchValue -InputObject $Document -Name $name -Default $null
    }
    foreach ($name in @('createdAt', 'state', 'armedUntil')) {
        $backup[$name] = Get-VswitchTimeText -InputObject $Document -Name $name
    }
    foreach ($name in @('adapters', 'records')) {
        $backup[$name] = @(Get-VswitchList -InputObject $Document -Name $name)
    }
    return $backup
}

function Invoke-VswitchStep {
    param($Step, $Live)
    $kind = Get-VswitchStepKind -Step $Step
    $adapter = $Live[[string] $Step.adapter]
    if (Test-VswitchAddition -Step $Step) {
        Add-VswitchEntry -Adapter $adapter -Kind $kind -Entry $Step.entry
        return
    }
    $found = @(Find-VswitchAcl -Adapter $adapter -Kind $kind -Entry $Step.entry)
    if (@(Get-VswitchMissing -Kind $kind -Entry $Step.entry -Found $found).Count -gt 0) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'StateChanged' -Message 'An entry that was to be removed is no longer there')
    }
    Remove-VswitchEntry -Kind $kind -Acl $found
}

function Undo-VswitchStep {
    # Puts one step's entry back to how it was, whether or not the step was ever carried out.
    param($Step, $Live)
    $id = [string] $Step.adapter
    if (-not $Live.ContainsKey($id)) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'NotFound' -Message 'The adapter is no longer on this host')
    }
    $kind = Get-VswitchStepKind -Step $Step
    $found = @(Find-VswitchAcl -Adapter $Live[$id] -Kind $kind -Entry $Step.entry)
    if (Test-VswitchAddition -Step $Step) {
        if ($found.Count -gt 0) {
            Remove-VswitchEntry -Kind $kind -Acl $found
        }
        return
    }
    foreach ($entry in @(Get-VswitchMissing -Kind $kind -Entry $Step.entry -Found $found)) {
        Add-VswitchEntry -Adapter $Live[$id] -Kind $kind -Entry $entry
    }
}

function Get-VswitchRecordDuring {
    # What may be ours while a plan is carried out or undone: what was ours before, all the plan writes.
    param($Backup)
    @($Backup['records'])
    foreach ($name in @('records', 'recordsDuring')) {
        Get-VswitchList -InputObject $Backup['plan'] -Name $name
    }
}

function Restore-VswitchBackup {
    # Undoes the first Count steps, last one first, each on its own; what fails is reported, not fatal.
    param($Backup, $Live, [int] $Count)
    $steps = @(Get-VswitchList -InputObject $Backup['plan'] -Name 'steps')
    $ids = @($Backup['adapters'] | ForEach-Object { [string] $_.id })
    $errors = @()
    if ($Count -gt 0) {
        # Whatever dies on the way back, no entry of ours is on the host without being in the record. If it
        # cannot be written, going back is worth more: the undo has then failed, and is to be repeated.
        try {
            Set-VswitchRecord -AdapterId $ids -Record @(Get-VswitchRecordDuring -Backup $Backup)
        } catch {
            $errors += ConvertTo-VswitchError -Record $_
        }
    }
    for ($index = $Count - 1; $index -ge 0; $index = $index - 1) {
        try {
            Undo-VswitchStep -Step $steps[$index] -Live $Live
        } catch {
            $problem = ConvertTo-VswitchError -Record $_
            $problem['target']['adapter'] = [string] $steps[$index].adapter
            $problem['target']['step'] = $index
            $errors += $problem
        }
    }
    $wasArmed = [string] $Backup['armedUntil'] -ne ''
    # A full disk must hide neither what went wrong first nor which state the adapters are in.
    try {
        if ($errors.Count -eq 0) {
            Set-VswitchRecord -AdapterId $ids -Record @($Backup['records'])
            $Backup['state'] = 'undone'
            $Backup['stepsDone'] = 0
            $Backup['armedUntil'] = $null
        } else {
            $Backup['state'] = 'failed'
            $Backup['stepsDone'] = $Count
        }
        Save-VswitchBackup -Backup $Backup
    } catch {
        $errors += ConvertTo-VswitchError -Record $_
    }
    $undone = $errors.Count -eq 0
    if ($undone -and $wasArmed) {
        Unregister-VswitchUndo -PlanId ([string] $Backup['planId'])
    }
    $result = Get-VswitchResult -Backup $Backup -Live $Live -StepsDone $Count -Undone $undone -AfterFailure
    $result['errors'] = @($errors)
    return $result
}

function Test-VswitchEntry {
    # Whether an entry has the form of one. A step that cannot be written for its form would fail
    # half-way, and could not be taken back.
    param([string] $Kind, $Entry)
    try {
        $keys = @(Get-VswitchKey -Kind $Kind -Entry $Entry)
        $direction = [int] $Entry.Direction
        $action = [int] $Entry.Action
        if ($Kind -eq 'extended') {
            $most = 2
            $isWhole = [int] $Entry.Weight -ge 1 -and [int] $Entry.Weight -le 65535
        } else {
            $most = 3
            $isWhole = ([int] $Entry.LocalAddressType -eq 0) -ne ([int] $Entry.RemoteAddressType -eq 0)
        }
    } catch {
        return $false
    }
    return $isWhole -and $keys.Count -gt 0 -and @(1, 2) -contains $direction -and $action -ge 1 -and $action -le $most
}

function Assert-VswitchPlan {
    # The plan's form, before anything is read or written.
    param($Plan)
    if ((Get-VswitchNumber -InputObject $Plan -Name 'schema') -ne 1) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'BadPlan' -Message 'The plan is not of schema 1')
    }
    $null = Get-VswitchBackupPath -PlanId (Get-VswitchText -InputObject $Plan -Name 'planId')
    $computer = Get-VswitchText -InputObject $Plan -Name 'host'
    if ($computer -ne '' -and $computer -ne [Environment]::MachineName) {
        # A VM that moved has its adapters' Ids elsewhere too, but the plan's record belongs to this host.
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'BadPlan' -Message "The plan was made for the host $computer, and this is $([Environment]::MachineName)")
    }
    $seconds = Get-VswitchNumber -InputObject $Plan -Name 'confirmWithin'
    if ($seconds -ne 0 -and ($seconds -lt 10 -or $seconds -gt 86400)) {
        # Less, and the time would have passed before the task that undoes it is there.
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'BadPlan' -Message 'A plan is confirmed within 10 to 86400 seconds, or at once (0)')
    }
    $ids = @(Get-VswitchList -InputObject $Plan -Name 'adapters' | ForEach-Object { [string] $_.id })
    $index = 0
    foreach ($step in @(Get-VswitchList -InputObject $Plan -Name 'steps')) {
        if (-not (Test-VswitchEntry -Kind (Get-VswitchStepKind -Step $step) -Entry (Get-VswitchValue -InputObject $step -Name 'entry' -Default $null))) {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'BadPlan' -Message 'A step holds no entry that Hyper-V could take' -Adapter ([string] $step.adapter) -Step $index)
        }
        if ($ids -notcontains [string] $step.adapter) {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'BadPlan' -Message 'A step names an adapter that the plan does not list' -Adapter ([string] $step.adapter) -Step $index)
        }
        $index = $index + 1
    }
}

function Assert-VswitchExpectation {
    # The adapters as they are now, as the backup keeps them; stops unless they, and what is recorded as
    # ours there, are as the plan read them: what was given back since is not the plan's to remove.
    param($Plan, $Live)
    $records = @(Get-VswitchRecord)
    foreach ($adapter in @(Get-VswitchList -InputObject $Plan -Name 'adapters')) {
        $id = [string] $adapter.id
        if (-not $Live.ContainsKey($id)) {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'NotFound' -Message "The adapter '$($adapter.name)' is no longer on this host" -Adapter $id)
        }
        $entries = Read-VswitchEntry -Adapter $Live[$id]
        $now = Get-VswitchKeyText -Basic @($entries['acls']) -Extended @($entries['extendedAcls'])
        $expected = Get-VswitchKeyText -Basic @(Get-VswitchList -InputObject $adapter -Name 'expectedAcls') -Extended @(Get-VswitchList -InputObject $adapter -Name 'expectedExtendedAcls')
        if ($now -cne $expected) {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'StateChanged' -Message "The entries of the adapter '$($adapter.name)' have changed since the plan was made" -Adapter $id)
        }
        $ours = Get-VswitchRecordText -Record $records -AdapterId $id
        if ($ours -cne (Get-VswitchRecordText -Record @(Get-VswitchList -InputObject $Plan -Name 'expectedRecords') -AdapterId $id)) {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'StateChanged' -Message "The record of what is ours at the adapter '$($adapter.name)' has changed since the plan was made" -Adapter $id)
        }
        [ordered]@{
            id = $id
            name = [string] $adapter.name
            vmName = Get-VswitchValue -InputObject $adapter -Name 'vmName' -Default $null
            acls = $entries['acls']
            extendedAcls = $entries['extendedAcls']
        }
    }
}

function Get-VswitchRepeat {
    # The answer to a plan that was applied before, or null where it has to be applied now.
    # Only a plan in force waits for an answer: what began and ended half-way (nobody else can be at
    # work, the lock is ours), or could not be undone, must be open to repair by another plan.
    param($Plan, [object[]] $Summaries)
    $id = [string] $Plan.planId
    foreach ($other in $Summaries) {
        if ($other['planId'] -ne $id -and $other['state'] -eq 'applied' -and $null -ne $other['armedUntil']) {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'Armed' -Message "Plan $($other['planId']) still waits to be confirmed on this host")
        }
    }
    $same = @($Summaries | Where-Object { $_['planId'] -eq $id })
    if ($same.Count -eq 0 -or $same[0]['state'] -eq 'undone') {
        return $null
    }
    $backup = ConvertTo-VswitchBackup -Document (Get-VswitchBackupDocument -PlanId $id)
    $live = Find-VswitchAdapter -Id @($backup['adapters'] | ForEach-Object { [string] $_.id })
    $count = @(Get-VswitchList -InputObject $backup['plan'] -Name 'steps').Count
    $result = Get-VswitchResult -Backup $backup -Live $live -StepsDone $count -Undone $false -AfterFailure
    $different = @($result['adapters'] | Where-Object { $_['state'] -ne 'new' })
    if ($same[0]['state'] -eq 'applying' -or $same[0]['state'] -eq 'failed') {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'Unfinished' -Message "Plan $id was begun on this host and neither finished nor undone") -Result $result
    }
    if ($different.Count -gt 0) {
        Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'StateChanged' -Message "Plan $id was applied on this host before, and its adapters have changed since" -Adapter $different[0]['id']) -Result $result
    }
    $result['repeated'] = $true
    return $result
}

function Invoke-VswitchPlanStep {
    # From the first write to the last: everything here can be undone from the backup.
    param($Backup, $Live, $Progress)
    $plan = $Backup['plan']
    $ids = @($Backup['adapters'] | ForEach-Object { [string] $_.id })
    $records = @(Get-VswitchList -InputObject $plan -Name 'records')
    $seconds = Get-VswitchNumber -InputObject $plan -Name 'confirmWithin'
    Set-VswitchRecord -AdapterId $ids -Record @(Get-VswitchRecordDuring -Backup $Backup)
    if ($seconds -gt 0) {
        Save-VswitchUndo -PlanId ([string] $Backup['planId'])
        Register-VswitchUndo -PlanId ([string] $Backup['planId']) -Until ([string] $Backup['armedUntil'])
    }
    foreach ($step in @(Get-VswitchList -InputObject $plan -Name 'steps')) {
        Add-VswitchProgress -PlanId ([string] $Backup['planId'])
        $Progress['begun'] = $Progress['begun'] + 1
        Invoke-VswitchStep -Step $step -Live $Live
        $Progress['done'] = $Progress['done'] + 1
    }
    $result = Get-VswitchResult -Backup $Backup -Live $Live -StepsDone $Progress['done'] -Undone $false
    foreach ($adapter in $result['adapters']) {
        if ($adapter['state'] -ne 'new') {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'NotAsPlanned' -Message "Read back after writing, the entries of the adapter '$($adapter['name'])' are not what the plan says" -Adapter $adapter['id'])
        }
    }
    Set-VswitchRecord -AdapterId $ids -Record $records
    $Backup['state'] = 'applied'
    $Backup['stepsDone'] = $Progress['done']
    if ($seconds -gt 0) {
        $Backup['armedUntil'] = Get-VswitchTime -AddSeconds $seconds
    }
    Save-VswitchBackup -Backup $Backup
    if ($seconds -gt 0) {
        Register-VswitchUndo -PlanId ([string] $Backup['planId']) -Until ([string] $Backup['armedUntil'])
    }
    $result['armedUntil'] = $Backup['armedUntil']
    return $result
}

function Invoke-VswitchPlan {
    <#
    .SYNOPSIS
    Applies a plan that vswitch made for this host.
    .DESCRIPTION
    Refuses, with nothing written, unless every adapter's entries, and the record of which of them are
    ours, are as the plan read them. Saves a
    backup, performs the steps in order, reads back. On any failure it undoes what it did, in
    reverse, and the error says which state every adapter is in. A plan with "confirmWithin" arms a
    scheduled task that undoes it unless Confirm-VswitchPlan is called in time. Applying the same
    plan again changes nothing.
    .PARAMETER Json
    The plan, as JSON text.
    .OUTPUTS
    An ordered dictionary: plan id, steps done, the adapters read back, until when an undo is armed.
    .EXAMPLE
    Invoke-VswitchPlan -Json (Get-Content -LiteralPath .\plan.json -Raw -Encoding UTF8)
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Json)
    return Invoke-VswitchPlanDocument -Plan (ConvertFrom-VswitchJson -Text $Json)
}

function Invoke-VswitchPlanDocument {
    param($Plan)
    Assert-VswitchPlan -Plan $Plan
    $seconds = Get-VswitchNumber -InputObject $Plan -Name 'confirmWithin'
    Initialize-VswitchHost -Administrator:($seconds -gt 0)
    Initialize-VswitchStore
    $lock = Enter-VswitchLock -Seconds $script:LockSeconds
    try {
        $summaries = @(Get-VswitchBackup)
        $repeat = Get-VswitchRepeat -Plan $Plan -Summaries $summaries
        if ($null -ne $repeat) {
            return $repeat
        }
        $ids = @(Get-VswitchList -InputObject $Plan -Name 'adapters' | ForEach-Object { [string] $_.id })
        $live = Find-VswitchAdapter -Id $ids
        $before = @(Assert-VswitchExpectation -Plan $Plan -Live $live)
        $sequence = 1
        if ($summaries.Count -gt 0) {
            $sequence = $summaries[0]['sequence'] + 1
        }
        $until = $null
        if ($seconds -gt 0) {
            $until = Get-VswitchTime -AddSeconds $seconds
        }
        $backup = [ordered]@{
            schema = 1
            planId = [string] $Plan.planId
            host = [Environment]::MachineName
            policyDigest = Get-VswitchText -InputObject $Plan -Name 'policyDigest'
            sequence = $sequence
            createdAt = Get-VswitchTime
            state = 'applying'
            stepsDone = 0
            armedUntil = $until
            adapters = $before
            records = @(Get-VswitchRecord | Where-Object { $ids -contains [string] $_.adapter })
            plan = $Plan
        }
        [IO.File]::Delete((Get-VswitchProgressPath -PlanId ([string] $Plan.planId)))
        $progress = @{ begun = 0; done = 0 }
        try {
            Save-VswitchBackup -Backup $backup
            return Invoke-VswitchPlanStep -Backup $backup -Live $live -Progress $progress
        } catch {
            $problem = ConvertTo-VswitchError -Record $_
            if ($progress['begun'] -gt $progress['done']) {
                $steps = @(Get-VswitchList -InputObject $Plan -Name 'steps')
                $problem['target']['adapter'] = [string] $steps[$progress['done']].adapter
                $problem['target']['step'] = $progress['done']
            }
            $count = $progress['begun']
            if ($problem['hresult'] -eq 2147942583 -and $count -gt $progress['done']) {
                # 0x800700B7: somebody else's entry was there first, and is to stay.
                $count = $progress['done']
            }
            $result = Restore-VswitchBackup -Backup $backup -Live $live -Count $count
            Stop-VswitchOperation -ErrorData $problem -Result $result
        }
    } finally {
        $lock.Dispose()
    }
}

function Undo-VswitchPlan {
    <#
    .SYNOPSIS
    Undoes a plan that was applied on this host, from the backup made then.
    .DESCRIPTION
    Takes back the plan's own additions and puts back its own removals, last step first, whichever
    of them were carried out. Entries of others stay. Refused when a later plan has touched the same
    adapters. Undoing twice changes nothing.
    .PARAMETER PlanId
    The plan.
    .PARAMETER IfDue
    Only when the plan's automatic undo is armed and its time has come: what the scheduled task uses.
    .OUTPUTS
    As Invoke-VswitchPlan.
    .EXAMPLE
    Undo-VswitchPlan -PlanId 20261121-085712-3f9a1c
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [AllowEmptyString()] [string] $PlanId, [switch] $IfDue)
    Initialize-VswitchHost
    Initialize-VswitchStore
    $wait = $script:LockSeconds
    if ($IfDue) {
        $wait = 3600
    }
    $lock = Enter-VswitchLock -Seconds $wait
    try {
        $backup = ConvertTo-VswitchBackup -Document (Get-VswitchBackupDocument -PlanId $PlanId)
        $ids = @($backup['adapters'] | ForEach-Object { [string] $_.id })
        $live = Find-VswitchAdapter -Id $ids
        if ($IfDue -and $backup['armedUntil'] -eq '') {
            # Whoever confirmed or undid the plan may not have had the right to remove the task.
            Unregister-VswitchUndo -PlanId $PlanId
        }
        $early = $backup['armedUntil'] -eq '' -or [string]::CompareOrdinal($backup['armedUntil'], (Get-VswitchTime)) -gt 0
        if ($IfDue -and $early) {
            return Get-VswitchResult -Backup $backup -Live $live -StepsDone 0 -Undone $false
        }
        if ($backup['state'] -eq 'undone') {
            return Get-VswitchResult -Backup $backup -Live $live -StepsDone 0 -Undone $true
        }
        foreach ($other in @(Get-VswitchBackup)) {
            $shared = @($other['adapters'] | Where-Object { $ids -contains $_['id'] })
            if ($other['sequence'] -gt [long] $backup['sequence'] -and $other['state'] -ne 'undone' -and $shared.Count -gt 0) {
                Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'Superseded' -Message "Plan $($other['planId']) has changed the same adapters since" -Adapter $shared[0]['id'])
            }
        }
        $count = [int] $backup['stepsDone']
        if ($backup['state'] -eq 'applying') {
            $count = Get-VswitchProgress -PlanId $PlanId
        }
        $result = Restore-VswitchBackup -Backup $backup -Live $live -Count $count
        if (-not $result['undone']) {
            Stop-VswitchOperation -ErrorData $result['errors'][0] -Result $result
        }
        return $result
    } finally {
        $lock.Dispose()
    }
}

function Confirm-VswitchPlan {
    <#
    .SYNOPSIS
    Keeps an applied plan: its automatic undo will not fire.
    .PARAMETER PlanId
    The plan.
    .OUTPUTS
    An ordered dictionary: plan id, confirmed, and whether an undo was armed.
    .EXAMPLE
    Confirm-VswitchPlan -PlanId 20261121-085712-3f9a1c
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [AllowEmptyString()] [string] $PlanId)
    Initialize-VswitchHost
    Initialize-VswitchStore
    $lock = Enter-VswitchLock -Seconds $script:LockSeconds
    try {
        $backup = ConvertTo-VswitchBackup -Document (Get-VswitchBackupDocument -PlanId $PlanId)
        if ($backup['state'] -ne 'applied' -and $backup['state'] -ne 'confirmed') {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'NotApplied' -Message "Plan $PlanId cannot be confirmed: its state is $($backup['state'])")
        }
        $wasArmed = $backup['armedUntil'] -ne ''
        $backup['state'] = 'confirmed'
        $backup['armedUntil'] = $null
        Save-VswitchBackup -Backup $backup
        if ($wasArmed) {
            Unregister-VswitchUndo -PlanId $PlanId
        }
        return [ordered]@{
            planId = $PlanId
            confirmed = $true
            wasArmed = $wasArmed
        }
    } finally {
        $lock.Dispose()
    }
}

function Invoke-VswitchOperation {
    <#
    .SYNOPSIS
    Performs one operation given as JSON and writes the answer as one JSON document.
    .DESCRIPTION
    The operations are export, apply, undo, confirm and backups. Never throws: an error is an answer
    with "ok" false. The document is ASCII; other characters are escaped.
    .PARAMETER Json
    {"operation": "...", "arguments": {...}}
    .OUTPUTS
    One string.
    .EXAMPLE
    Invoke-VswitchOperation -Json '{"operation": "export", "arguments": {}}'
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Json)
    try {
        $request = ConvertFrom-VswitchJson -Text $Json
        $operation = Get-VswitchText -InputObject $request -Name 'operation'
        $arguments = Get-VswitchValue -InputObject $request -Name 'arguments' -Default @{}
        $planId = Get-VswitchText -InputObject $arguments -Name 'planId'
        if ($operation -ceq 'export') {
            $result = Export-VswitchState
        } elseif ($operation -ceq 'apply') {
            $result = Invoke-VswitchPlanDocument -Plan (Get-VswitchValue -InputObject $arguments -Name 'plan' -Default $null)
        } elseif ($operation -ceq 'undo') {
            $result = Undo-VswitchPlan -PlanId $planId -IfDue:(Get-VswitchFlag -InputObject $arguments -Name 'ifDue')
        } elseif ($operation -ceq 'confirm') {
            $result = Confirm-VswitchPlan -PlanId $planId
        } elseif ($operation -ceq 'backups') {
            Initialize-VswitchHost
            $result = [ordered]@{ backups = @(Get-VswitchBackup -PlanId $planId) }
        } else {
            Stop-VswitchOperation -ErrorData (New-VswitchError -Category 'UnknownOperation' -Message "There is no operation '$operation'")
        }
        $document = [ordered]@{ schema = 1; ok = $true; result = $result }
    } catch {
        $partial = $null
        if ([string] $_.FullyQualifiedErrorId -like 'Vswitch.*') {
            $partial = $_.TargetObject['result']
        }
        $document = [ordered]@{
            schema = 1
            ok = $false
            error = ConvertTo-VswitchError -Record $_
            result = $partial
        }
    }
    return ConvertTo-VswitchJson -InputObject $document
}

Export-ModuleMember -Function @(
    'Confirm-VswitchPlan',
    'Export-VswitchState',
    'Get-VswitchBackup',
    'Invoke-VswitchOperation',
    'Invoke-VswitchPlan',
    'Undo-VswitchPlan'
)
